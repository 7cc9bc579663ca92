import { Duplex } from 'node:stream';

export interface EngineEnd {
  /** Sends complete frontend messages. The buffer is given away. */
  send(bytes: Uint8Array<ArrayBuffer>): void;
  /** Asks for a clean shutdown; resolves when the engine is gone. */
  shutDown(): Promise<void>;
  /** Stops the engine in the middle of whatever it does; resolves when it is gone. */
  terminate(): Promise<void>;
}

/**
 * The engine's worker as `pg` sees it: a socket. `pg` corks the messages that belong together, so that what arrives here in one piece
 * is always complete, which the engine needs. The stream closes only when the worker is gone.
 */
export class EngineStream extends Duplex {
  readonly #engine: EngineEnd;

  constructor(engine: EngineEnd) {
    super();
    this.#engine = engine;
    // The engine may die before pg listens; who waits for the engine learns it there.
    this.on('error', () => {});
  }

  // The parts of net.Socket that pg calls.
  connect(): this {
    process.nextTick(() => this.emit('connect'));
    return this;
  }
  setNoDelay(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#engine.send(new Uint8Array(chunk));
    done();
  }

  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    const bytes = new Uint8Array(chunks.reduce((length, { chunk }) => length + chunk.length, 0));
    let offset = 0;
    for (const { chunk } of chunks) {
      bytes.set(chunk, offset);
      offset += chunk.length;
    }
    this.#engine.send(bytes);
    done();
  }

  override _final(done: () => void): void {
    void this.#sayGoodbye(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    void this.#stop(() => done(error));
  }

  async #sayGoodbye(done: () => void): Promise<void> {
    await this.#engine.shutDown();
    this.push(null);
    done();
  }

  async #stop(done: () => void): Promise<void> {
    await this.#engine.terminate();
    done();
  }
}
