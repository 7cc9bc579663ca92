import { isUtf8 } from 'node:buffer';

export interface EventLine {
  readonly json: string;
  /** Counted from 1. */
  readonly line: number;
}

/** More than any event may have; a longer line is not kept in memory. */
export const lineBytesMax = 1024 * 1024;

/**
 * The lines of `source` that may be events. Empty ones are passed over; what is too long or not UTF-8 is told to `refuse`. It reads no faster
 * than it is read.
 */
export async function* eventLines(
  source: AsyncIterable<Buffer>,
  refuse: (line: number, code: string, detail: string) => void,
): AsyncGenerator<EventLine, void, undefined> {
  let line = 0;
  for await (const bytes of lines(source)) {
    line++;
    if (bytes === null) refuse(line, 'payload_too_large', `The line has more than ${lineBytesMax} bytes.`);
    else if (!isUtf8(bytes)) refuse(line, 'invalid_utf8', 'The line is not UTF-8.');
    else {
      const json = bytes.toString('utf8').replace(line === 1 ? /^\uFEFF/ : /^(?!)/, '');
      if (json.trim() !== '') yield { json, line };
    }
  }
}

/** Null for a line that is too long. */
async function* lines(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer | null, void, undefined> {
  let parts: Buffer[] = [];
  let bytes = 0;
  const add = (part: Buffer): void => {
    bytes += part.length;
    if (bytes > lineBytesMax) parts = [];
    else parts.push(part);
  };
  const end = (): Buffer | null => {
    const line = bytes > lineBytesMax ? null : Buffer.concat(parts);
    parts = [];
    bytes = 0;
    return line;
  };
  for await (const chunk of source) {
    let from = 0;
    for (let at = chunk.indexOf(0x0a); at >= 0; at = chunk.indexOf(0x0a, from)) {
      add(chunk.subarray(from, at));
      yield end();
      from = at + 1;
    }
    add(chunk.subarray(from));
  }
  if (bytes > 0) yield end();
}
