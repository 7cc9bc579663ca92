import type { Writable } from 'node:stream';
import type { ReadEvent } from '../client/index.js';

/** Whoever read the output has read enough: the command ends, and nothing is wrong. */
export class OutputClosed extends Error {
  override readonly name = 'OutputClosed';
  constructor() {
    super('Standard output was closed before the end.');
  }
}

/** Lines to a stream, no faster than they are read. */
export class Lines {
  constructor(private readonly stream: Writable) {}

  /** Resolves when the line was handed on. Throws `OutputClosed` when nobody reads any more. */
  async write(line: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      // Besides calling back, a failed write is an 'error' event, which without a listener would end the process.
      const failed = (): void => reject(new OutputClosed());
      this.stream.once('error', failed);
      this.stream.write(`${line}\n`, (error) => {
        if (error) return failed();
        this.stream.off('error', failed);
        resolve();
      });
    });
  }

  json(value: unknown): Promise<void> {
    return this.write(JSON.stringify(value));
  }

  /** The payload as it was sent, but on one line: outside of its strings a line break is white space, and inside there is none. */
  event({ rawPayload = 'null', ...event }: ReadEvent): Promise<void> {
    const fields = Object.entries(event).filter(([name]) => name !== 'payload');
    const head = JSON.stringify(Object.fromEntries(fields)).slice(0, -1);
    return this.write(`${head},"payload":${rawPayload.replaceAll(/[\r\n]/g, ' ')}}`);
  }
}
