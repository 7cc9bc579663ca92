import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { Worker } from 'node:worker_threads';
import { StorageError } from './database.js';
import { engineCell } from './embedded-protocol.js';
import type { EngineWorkerData, FromEngine, ToEngine } from './embedded-protocol.js';
import { EngineStream } from './embedded-stream.js';

export interface EngineProcessOptions {
  /** The compiled engine: compiled once, while the first worker loads, and shared by every later one. */
  readonly module: Promise<WebAssembly.Module>;
  readonly syncFiles: boolean;
  readonly onLog: (line: string) => void;
  /** The thread has got its work, and this one is free meanwhile. */
  readonly onBusy?: (() => void) | undefined;
}

/** Compiles the engine, off the main thread. */
export async function compileEngine(): Promise<WebAssembly.Module> {
  const library = import.meta.resolve('@electric-sql/pglite');
  return WebAssembly.compile(await readFile(new URL('pglite.wasm', library)));
}

/** One life of the embedded engine: a worker thread, from its start to its exit. Starts loading at once, touches no folder unasked. */
export class EngineProcess {
  readonly stream: EngineStream;
  /** Resolves with the exit code when the thread is gone. */
  readonly exited: Promise<number>;
  readonly #worker: Worker;
  readonly #module: Promise<WebAssembly.Module>;
  readonly #cells = new BigInt64Array(new SharedArrayBuffer(8 * Object.keys(engineCell).length));
  readonly #onBusy: (() => void) | undefined;
  #settleOpening: (error?: Error) => void = () => {};

  constructor({ module, syncFiles, onLog, onBusy }: EngineProcessOptions) {
    this.#module = module;
    this.#onBusy = onBusy;
    const workerData: EngineWorkerData = { cells: this.#cells, syncFiles };
    // Its output is piped: nothing of the engine may reach the process's own standard output.
    this.#worker = new Worker(new URL('./embedded-worker.js', import.meta.url), {
      workerData,
      stdout: true,
      stderr: true,
    });
    for (const output of [this.#worker.stdout, this.#worker.stderr]) createInterface(output).on('line', onLog);
    this.exited = new Promise((resolve) => {
      this.#worker.once('exit', resolve);
    });
    this.stream = new EngineStream({
      send: (bytes) => this.#send({ type: 'bytes', bytes }, [bytes.buffer]),
      shutDown: async () => {
        this.#send({ type: 'close' });
        await this.exited;
      },
      terminate: async () => {
        await this.#worker.terminate();
      },
    });
    this.#worker.on('error', (error) => onLog(`the database engine's thread failed: ${error.message}`));
    this.#worker.on('message', (message: FromEngine) => this.#receive(message, onLog));
    this.#worker.once('exit', (code) => {
      if (!this.stream.writableEnded) this.stream.destroy(exitError(code));
    });
  }

  /** File syncs of this engine so far. */
  get fsyncs(): number {
    return Number(Atomics.load(this.#cells, engineCell.syncs));
  }

  /** Whether it waits for the disk at this moment. */
  get isSyncing(): boolean {
    return Atomics.load(this.#cells, engineCell.syncing) === 1n;
  }

  /** Memory of the engine; 2 GiB at most. */
  get memoryBytes(): number {
    return Number(Atomics.load(this.#cells, engineCell.memoryBytes));
  }

  /** Opens an existing cluster. Rejects with the engine's last words; the thread is gone then. */
  async open(folder: string): Promise<void> {
    try {
      const module = await this.#module;
      const opened = new Promise<void>((resolve, reject) => {
        this.#settleOpening = (error) => (error ? reject(error) : resolve());
        this.#send({ type: 'open', folder, module });
      });
      this.#onBusy?.();
      const exited = this.exited.then((code) => Promise.reject(exitError(code)));
      await Promise.race([opened, exited]);
    } catch (error) {
      await this.#worker.terminate();
      throw error;
    }
  }

  /** Makes a new cluster in an empty folder and exits. Takes seconds; syncs nothing. */
  async create(folder: string): Promise<void> {
    const module = await this.#module;
    let failure: Error | undefined;
    this.#settleOpening = (error) => {
      failure ??= error;
    };
    this.#send({ type: 'create', folder, module });
    this.#onBusy?.();
    const code = await this.exited;
    if (code !== 0) throw failure ?? exitError(code);
  }

  async terminate(): Promise<void> {
    await this.#worker.terminate();
  }

  #send(message: ToEngine, transfer: ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  #receive(message: FromEngine, onLog: (line: string) => void): void {
    switch (message.type) {
      case 'opened':
        return this.#settleOpening();
      case 'failed':
        onLog(message.message);
        return this.#settleOpening(new StorageError('unavailable', message.message));
      case 'bytes': {
        const { buffer, byteOffset, length } = message.bytes;
        if (!this.stream.destroyed) this.stream.push(Buffer.from(buffer, byteOffset, length));
        return;
      }
      case 'log':
        return onLog(message.line);
    }
  }
}

function exitError(code: number): StorageError {
  return new StorageError('unavailable', `the database engine exited with code ${code}`);
}
