import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import type { DataLine } from './format.js';
import {
  checkpointLine,
  chunkBytesMax,
  FormatError,
  formatName,
  formatVersion,
  kindOf,
  lineBytesMax,
} from './format.js';
import { gzipMagic } from './gzip-member.js';
import { Outline } from './outline.js';

/** A chunk whose checksum is right. */
export interface Chunk {
  /** From 1 on. */
  readonly number: number;
  /** SHA-256, in hex, of the file up to the checkpoint that ends the chunk. */
  readonly checksum: string;
  /** The org under way where the chunk begins. */
  readonly orgBefore: DataLine<'org'> | null;
  /** Without the first line of the file and without the checkpoint. */
  readonly lines: readonly Buffer[];
}

const newLine = 0x0a;
/** No line begins in more bytes than this. */
const beginningBytesMax = 32;
const chunkBytesEnd = chunkBytesMax + lineBytesMax;

/**
 * Reads the text of an export, chunk by chunk, each given out only after its checksum was found right; when there are no more, the last line was
 * there and is right, too. Throws a `FormatError` that says what is wrong. Holds one chunk in memory.
 */
export class ChunkReader {
  readonly outline = new Outline();
  /** The schema's version, once the first chunk was read. */
  schemaVersion = 0;
  /** Bytes of text up to the end of the last chunk. */
  textBytes = 0;
  chunks = 0;
  readonly #hash = createHash('sha256');
  #isEnded = false;
  #lines: Buffer[] = [];
  #chunkBytes = 0;
  /** Lines with their ends, since one call for many costs half as much as one for each. */
  #unhashed: Buffer[] = [];

  /** The running checksum, to go on from where the last chunk ended. */
  get hash(): Hash {
    return this.#hashed().copy();
  }

  async *read(text: AsyncIterable<Buffer>): AsyncGenerator<Chunk> {
    let orgBefore = this.outline.org;
    for await (const line of linesOf(text)) {
      if (this.#isEnded) throw new FormatError('the file goes on after its end');
      if (!this.#take(line)) continue;
      const chunk = { number: this.chunks, checksum: this.#checksum(), orgBefore, lines: this.#lines };
      this.#endChunk(line);
      yield chunk;
      orgBefore = this.outline.org;
    }
    if (!this.#isEnded) throw new FormatError('the file stops before its end: it was cut, or is still being written');
  }

  /** True for the checkpoint of a chunk that is whole. `whole` has its end. */
  #take(whole: Buffer): boolean {
    const line = whole.subarray(0, -1);
    const kind = kindOf(line.toString('latin1', 0, beginningBytesMax));
    if (this.schemaVersion === 0) {
      this.schemaVersion = readHeader(line);
    } else if (kind === 'checkpoint') {
      this.chunks++;
      requireSame(line, checkpointLine(this.chunks, this.#checksum()));
      return true;
    } else if (kind === 'end') {
      if (this.#lines.length > 0 || this.outline.org !== null)
        throw new FormatError('the end stands where it cannot be');
      requireSame(line, this.outline.endLine(this.#checksum()));
      this.#isEnded = true;
      return false;
    } else {
      this.outline.add(kind, () => line.toString());
      this.#lines.push(line);
    }
    this.#count(whole);
    if (this.#chunkBytes > chunkBytesEnd) throw new FormatError('a chunk is longer than any that is written');
    return false;
  }

  #endChunk(checkpoint: Buffer): void {
    this.#count(checkpoint);
    this.textBytes += this.#chunkBytes;
    this.#chunkBytes = 0;
    this.#lines = [];
  }

  #count(whole: Buffer): void {
    this.#unhashed.push(whole);
    this.#chunkBytes += whole.length;
  }

  #checksum(): string {
    return this.#hashed().copy().digest('hex');
  }

  #hashed(): Hash {
    if (this.#unhashed.length > 0) this.#hash.update(Buffer.concat(this.#unhashed));
    this.#unhashed = [];
    return this.#hash;
  }
}

/** What ends a chunk, and the whole, must be byte for byte what the lines before it make it. */
function requireSame(line: Buffer, expected: string): void {
  if (line.toString() !== expected)
    throw new FormatError('a checksum or a count is wrong: the file is damaged; copy or export it again');
}

/** The schema's version. */
function readHeader(line: Buffer): number {
  const header = /^\{"line":"export","format":"([a-z-]+)","version":(\d{1,9}),"schema":(\d{1,9})\}$/.exec(
    line.toString('latin1', 0, 128),
  );
  if (header?.[1] !== formatName) throw new NotAnExport('the file is no export of Sluice');
  if (Number(header[2]) !== formatVersion) {
    throw new NotAnExport(
      `the export has format version ${header[2]}, and this program knows ${formatVersion}: use the Sluice that wrote it, or a newer one`,
    );
  }
  return Number(header[3]);
}

/** Its first line says that this is something else; nothing of it may be written over. */
export class NotAnExport extends FormatError {}

/** Lines with their ends. What stands after the last end of a line is an error: every line of an export has one. */
async function* linesOf(text: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest: Buffer[] = [];
  let restBytes = 0;
  for await (const piece of text) {
    let from = 0;
    for (let at = piece.indexOf(newLine); at !== -1; at = piece.indexOf(newLine, from)) {
      const line = piece.subarray(from, at + 1);
      yield rest.length === 0 ? line : Buffer.concat([...rest, line]);
      rest = [];
      restBytes = 0;
      from = at + 1;
    }
    if (from === piece.length) continue;
    rest.push(piece.subarray(from));
    restBytes += piece.length - from;
    if (restBytes > lineBytesMax) throw new FormatError(`a line is longer than ${lineBytesMax} bytes`);
  }
  if (restBytes > 0) throw new FormatError('the file stops in the middle of a line: it was cut');
}

/** The text of a file that is gzip or not, as its first two bytes say. Bad gzip is a `FormatError`. */
export async function* textOf(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const pieces = bytes[Symbol.asyncIterator]();
  let first = Buffer.alloc(0);
  while (first.length < gzipMagic.length) {
    const { value, done } = (await pieces.next()) as IteratorResult<Buffer, undefined>;
    if (done === true) break;
    first = Buffer.concat([first, value]);
  }
  const all = prepend(first, pieces);
  yield* first.subarray(0, gzipMagic.length).equals(gzipMagic) ? inflated(all) : all;
}

async function* inflated(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const source = Readable.from(bytes);
  const gunzip = createGunzip();
  source.once('error', (error) => gunzip.destroy(error));
  try {
    yield* source.pipe(gunzip) as AsyncIterable<Buffer>;
  } catch (error) {
    if (!String((error as NodeJS.ErrnoException).code).startsWith('Z_')) throw error;
    throw new FormatError('the gzip data is damaged or was cut', { cause: error });
  } finally {
    source.destroy();
  }
}

async function* prepend(first: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  if (first.length > 0) yield first;
  yield* { [Symbol.asyncIterator]: () => rest };
}
