import { parentPort, workerData } from 'node:worker_threads';
import { Engine } from './embedded-engine.js';
import { engineCell } from './embedded-protocol.js';
import type { EngineWorkerData, FromEngine, ToEngine } from './embedded-protocol.js';

/**
 * The thread in which the embedded engine lives: complete wire-protocol messages in, the engine's answers out. It exits as soon as the
 * engine can no longer be trusted; the main thread then opens the folder anew.
 */
const port = parentPort;
if (!port) throw new Error('this file is a worker thread, not a program');

/** A line of the engine's own log. Lines that a message continues on start with a tab, so no stored text can look like one. */
const lastWords = /^\S+ \S+ \S+ \[\d+\] (?:PANIC|FATAL):/;

const data = workerData as EngineWorkerData;
let engine: Engine | undefined;
let opening = true;

const post = (message: FromEngine, transfer: ArrayBuffer[] = []): void => port.postMessage(message, transfer);

function die(reason: string): never {
  post(opening ? { type: 'failed', message: reason } : { type: 'log', line: reason });
  process.exit(1);
}

const callbacks = {
  syncFiles: data.syncFiles,
  onSyncBegin: () => void Atomics.store(data.cells, engineCell.syncing, 1n),
  onSyncEnd: () => void Atomics.store(data.cells, engineCell.syncing, 0n),
  onSync: () => void Atomics.add(data.cells, engineCell.syncs, 1n),
  onLog(line: string) {
    if (line === '') return;
    if (lastWords.test(line)) die(line);
    post({ type: 'log', line });
  },
  // After a trap or an exit of the engine its memory means nothing, and PGlite would go on with it.
  onTrap: (reason: unknown) => die(`the database engine stopped: ${String(reason)}`),
};

async function serve(message: ToEngine): Promise<void> {
  switch (message.type) {
    case 'create':
      await Engine.create(message.folder, message.module, callbacks);
      return process.exit(0);
    case 'open':
      engine = await Engine.open(message.folder, message.module, callbacks);
      opening = false;
      return post({ type: 'opened' });
    case 'bytes': {
      const bytes = await engine?.exchange(message.bytes);
      Atomics.store(data.cells, engineCell.memoryBytes, BigInt(engine?.memoryBytes ?? 0));
      if (bytes && bytes.length > 0) post({ type: 'bytes', bytes }, [bytes.buffer]);
      return;
    }
    case 'close':
      await engine?.close();
      return process.exit(0);
  }
}

let last: Promise<void> = Promise.resolve();
port.on('message', (message: ToEngine) => {
  last = last
    .then(() => serve(message))
    .catch((error: unknown) => die(error instanceof Error ? error.message : String(error)));
});
