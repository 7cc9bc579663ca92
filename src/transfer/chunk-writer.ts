import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { checkpointLine, chunkBytesMax, chunkLinesMax, kindOf } from './format.js';
import { gzipMember } from './gzip-member.js';
import { Outline } from './outline.js';

/** Where an export stands at the end of a chunk. */
export interface WritingState {
  readonly outline: Outline;
  readonly hash: Hash;
  readonly chunks: number;
}

export function newWriting(): WritingState {
  return { outline: new Outline(), hash: createHash('sha256'), chunks: 0 };
}

/** Turns lines into chunks with checkpoints, each a gzip member of its own where that is wanted, and gives them to `write`, one at a time. */
export class ChunkWriter {
  readonly outline: Outline;
  readonly #write: (bytes: Buffer) => Promise<void>;
  readonly #gzip: boolean;
  readonly #hash: Hash;
  #chunks: number;
  #lines: string[] = [];
  #bytes = 0;
  #writing: Promise<void> = Promise.resolve();

  /** Goes on from `from`. `write` is to resolve when it can take more. */
  constructor(write: (bytes: Buffer) => Promise<void>, gzip: boolean, from: WritingState = newWriting()) {
    this.#write = write;
    this.#gzip = gzip;
    this.outline = from.outline;
    this.#hash = from.hash;
    this.#chunks = from.chunks;
  }

  get isEmpty(): boolean {
    return this.#chunks === 0 && this.#lines.length === 0;
  }

  /** The first line of the export. */
  begin(header: string): void {
    this.#push(header);
  }

  /** Resolves when the next line can be taken: while one chunk is being written, the next one gathers. */
  async add(lines: readonly string[]): Promise<void> {
    for (const line of lines) {
      this.outline.add(kindOf(line), () => line);
      this.#push(line);
      if (this.#lines.length >= chunkLinesMax || this.#bytes >= chunkBytesMax) await this.#flush();
    }
  }

  /** Writes what is left and the last line. Resolves when `write` has taken it all. */
  async end(): Promise<void> {
    if (this.#lines.length > 0) await this.#flush();
    this.#push(this.outline.endLine(this.#checksum()));
    await this.#emit();
    await this.#writing;
  }

  #push(line: string): void {
    this.#lines.push(line);
    this.#bytes += Buffer.byteLength(line) + 1;
  }

  async #flush(): Promise<void> {
    this.#hash.update(`${this.#lines.join('\n')}\n`);
    this.#chunks++;
    const checkpoint = checkpointLine(this.#chunks, this.#checksum());
    this.#hash.update(`${checkpoint}\n`);
    this.#lines.push(checkpoint);
    await this.#emit();
  }

  /** Waits for the chunk before this one only. */
  async #emit(): Promise<void> {
    const text = Buffer.from(`${this.#lines.join('\n')}\n`);
    this.#lines = [];
    this.#bytes = 0;
    await this.#writing;
    this.#writing = this.#give(text);
    // Whoever writes next, or ends, gets the failure.
    this.#writing.catch(() => {});
  }

  async #give(text: Buffer): Promise<void> {
    await this.#write(this.#gzip ? await gzipMember(text) : text);
  }

  #checksum(): string {
    return this.#hash.copy().digest('hex');
  }
}
