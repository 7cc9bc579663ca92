/** What the main thread and the worker of the embedded engine say to each other. */

export interface EngineWorkerData {
  /** What the engine is doing, by `engineCell`; shared, so that it can be read in the middle of a statement. */
  readonly cells: BigInt64Array<SharedArrayBuffer>;
  /** False only in the self-test's negative control: the engine then believes that it syncs, and does not. */
  readonly syncFiles: boolean;
}

export const engineCell = {
  /** File syncs that reached the disk. */
  syncs: 0,
  /** 1 while the engine waits for the disk, else 0. */
  syncing: 1,
  /** The engine's memory; it grows as needed, and never shrinks. */
  memoryBytes: 2,
} as const;

export type ToEngine =
  /** Makes a new cluster in the empty folder, shuts it down cleanly and exits. Nothing is synced. */
  | { readonly type: 'create'; readonly folder: string; readonly module: WebAssembly.Module }
  | { readonly type: 'open'; readonly folder: string; readonly module: WebAssembly.Module }
  /** One or more complete frontend messages of the wire protocol. */
  | { readonly type: 'bytes'; readonly bytes: Uint8Array<ArrayBuffer> }
  /** Shuts down cleanly (with a checkpoint) and exits. */
  | { readonly type: 'close' };

export type FromEngine =
  | { readonly type: 'opened' }
  | { readonly type: 'failed'; readonly message: string }
  | { readonly type: 'bytes'; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly type: 'log'; readonly line: string };
