import { fdatasyncSync, fsyncSync } from 'node:fs';
import { PGlite } from '@electric-sql/pglite';
import { NodeFS } from '@electric-sql/pglite/nodefs';

export interface EngineOptions {
  /** False: the engine is told that its files are on disk, and they are not. */
  readonly syncFiles: boolean;
  /** The engine begins, and ends, to wait for the disk. */
  readonly onSyncBegin: () => void;
  readonly onSyncEnd: () => void;
  /** A file of the engine has reached the disk. */
  readonly onSync: () => void;
  /** One line that the engine wrote to its log. */
  readonly onLog: (line: string) => void;
  /** The engine left its main loop: a trap, an abort, an exit. Must not return to it. */
  readonly onTrap: (reason: unknown) => never;
}

/** The engine's number for "input/output error"; PostgreSQL panics on it, which is what must happen when a sync fails. */
const EIO = 29;

/** The status with which the engine leaves its main loop for an ordinary SQL error. */
const sqlErrorStatus = 100;

/**
 * PGlite is started with fsync off, and its default wal_sync_method ends in a function that does nothing. With these three settings
 * and the `fsync` below, what it commits is on disk; with one missing, folders did not reopen after a loss of power.
 */
const startParams = [
  ...PGlite.defaultStartParams.filter((param) => param !== '-F'),
  ...settings({
    fsync: 'on',
    wal_sync_method: 'fsync',
    full_page_writes: 'on',
    timezone: 'UTC',
    // Errors go to the client; in the log they would carry row values. LOG, FATAL and PANIC stay.
    log_min_messages: 'log',
    log_min_error_statement: 'panic',
    // PGlite's 128 MB are zeroed and kept: a quarter of that starts 0.1 to 0.2 s sooner, and the system's page cache lies behind it.
    shared_buffers: '32MB',
  }),
];

/** PostgreSQL in this thread, on a folder, durable: a commit's reply means that `fdatasync` has returned. */
export class Engine {
  readonly #pglite: PGlite;

  /**
   * Makes a cluster in the empty `folder` and shuts it down; nothing is synced. The template databases are dropped: the engine is only
   * ever connected to one database and could never vacuum the others, which ends in a stop at transaction id wraparound; and the
   * recovery after a kill, which visits every file, takes 0.3 s less with 370 files than with 970.
   */
  static async create(folder: string, module: WebAssembly.Module, options: EngineOptions): Promise<void> {
    const engine = await Engine.open(folder, module, { ...options, syncFiles: false });
    for (const template of ['template0', 'template1']) {
      await engine.#pglite.exec(`ALTER DATABASE ${template} IS_TEMPLATE false`);
      await engine.#pglite.exec(`DROP DATABASE ${template}`);
    }
    await engine.close();
  }

  /** Opens the cluster in `folder`, or makes one if the folder is empty. Not more than one engine may have a folder open. */
  static async open(folder: string, module: WebAssembly.Module, options: EngineOptions): Promise<Engine> {
    const onLine = (line: string): boolean => {
      options.onLog(line);
      return false;
    };
    const pglite = new QuickPGlite({
      fs: new SyncedFolder(folder, options),
      pgliteWasmModule: module,
      startParams,
      onStdout: onLine,
      onStderr: onLine,
    });
    await pglite.waitReady;
    guardMainLoop(pglite.Module, options.onTrap);
    return new Engine(pglite);
  }

  private constructor(pglite: PGlite) {
    this.#pglite = pglite;
  }

  /** Gives complete frontend messages to the engine and returns all that it answers. Blocks the thread meanwhile. */
  async exchange(messages: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
    const chunks: Uint8Array[] = [];
    // The streaming call, because the plain one also parses every answer and keeps it for ever.
    await this.#pglite.execProtocolRawStream(messages, {
      syncToFs: false,
      onRawData: (chunk) => void chunks.push(chunk.slice()),
    });
    const answer = new Uint8Array(chunks.reduce((length, chunk) => length + chunk.length, 0));
    let offset = 0;
    for (const chunk of chunks) {
      answer.set(chunk, offset);
      offset += chunk.length;
    }
    return answer;
  }

  get memoryBytes(): number {
    return this.#pglite.Module.HEAPU8.byteLength;
  }

  /** Clean shutdown: writes a checkpoint, so that the next start has nothing to recover. */
  async close(): Promise<void> {
    await this.#pglite.close();
  }
}

/** Without the catalog query that PGlite runs at start for its own result parser, which is not used here: 0.1 to 0.2 s. */
class QuickPGlite extends PGlite {
  override async _initArrayTypes(): Promise<void> {}
}

class SyncedFolder extends NodeFS {
  readonly #options: EngineOptions;

  constructor(folder: string, options: EngineOptions) {
    super(folder);
    this.#options = options;
  }

  override async init(...args: Parameters<NodeFS['init']>): ReturnType<NodeFS['init']> {
    const result = await super.init(...args);
    const preRun = result.emscriptenOpts.preRun as ((module: SyncableModule) => void)[];
    preRun.push((module) => installSync(module, this.#options));
    return result;
  }
}

interface SyncableModule {
  readonly FS: { isDir(mode: number): boolean };
  readonly NODEFS: { stream_ops: { fsync?: (stream: OpenStream) => number } };
}

interface OpenStream {
  readonly nfd: number;
  readonly node: { readonly mode: number };
}

function installSync({ FS, NODEFS }: SyncableModule, options: EngineOptions): void {
  const { syncFiles, onSyncBegin, onSyncEnd, onSync, onLog } = options;
  if (!syncFiles) return;
  NODEFS.stream_ops.fsync = ({ nfd, node }) => {
    onSyncBegin();
    try {
      if (FS.isDir(node.mode)) {
        fsyncSync(nfd);
      } else {
        fdatasyncSync(nfd);
        onSync();
      }
      return 0;
    } catch (error) {
      onLog(`fsync failed: ${String(error)}`);
      return EIO;
    } finally {
      onSyncEnd();
    }
  };
}

/** PGlite swallows whatever the engine throws out of its main loop. Only an SQL error leaves it usable. */
function guardMainLoop(module: PGlite['Module'], onTrap: (reason: unknown) => never): void {
  // oxlint-disable-next-line no-underscore-dangle -- the engine's own name
  const once = module._PostgresMainLoopOnce.bind(module);
  // oxlint-disable-next-line no-underscore-dangle
  module._PostgresMainLoopOnce = () => {
    try {
      once();
    } catch (error) {
      if ((error as { status?: unknown }).status !== sqlErrorStatus) onTrap(error);
      throw error;
    }
  };
}

function settings(values: Record<string, string>): string[] {
  return Object.entries(values).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
}
