/** What the main thread and the worker of the embedded engine say to each other. */

export interface EngineWorkerData {
  /** Counts the engine's file syncs that reached the disk; shared, so that it can be read during a commit. */
  readonly syncCounter: BigUint64Array<SharedArrayBuffer>;
  /** False only in the self-test's negative control: the engine then believes that it syncs, and does not. */
  readonly syncFiles: boolean;
}

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
