import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { relative, sep } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import { takeOut } from './take-out.js';
import type { FileRecord } from './trace.js';
import { encodeRecord } from './trace.js';

/**
 * Loaded with `node --import` before a program that runs the embedded engine: in the engine's thread it writes down what is done to files
 * below `POWER_LOSS_FOLDER`, to the file `POWER_LOSS_TRACE`. The engine's file system calls Node's `fs` object for everything, so that is
 * where it looks on; the product is as it is, but for a protection that `POWER_LOSS_WITHOUT` takes out.
 */
const { POWER_LOSS_FOLDER: folder, POWER_LOSS_TRACE: trace, POWER_LOSS_WITHOUT: protection } = process.env;
if (protection !== undefined) takeOut(protection);
if (!isMainThread && folder !== undefined && trace !== undefined) lookOn(folder, trace);

function lookOn(root: string, tracePath: string): void {
  const real = { ...fs };
  const traceFd = real.openSync(tracePath, 'a');
  const watched = new Set<number>();
  const tell = (record: FileRecord): void => void real.writeSync(traceFd, encodeRecord(record));
  const inside = (path: unknown): string | null => {
    const below = typeof path === 'string' ? relative(root, path) : '..';
    return below === '..' || below.startsWith(`..${sep}`) ? null : below;
  };
  const { O_APPEND, O_CREAT, O_TRUNC } = real.constants;

  const replaced: Partial<typeof fs> = {
    openSync(path, flags, mode) {
      const fd = real.openSync(path, flags, mode);
      const below = inside(path);
      if (below === null) return fd;
      if (typeof flags !== 'number' || (flags & O_APPEND) !== 0)
        throw new Error(`not modelled: flags ${flags} of ${below}`);
      watched.add(fd);
      tell({ op: 'open', fd, path: below, create: (flags & O_CREAT) !== 0, cut: (flags & O_TRUNC) !== 0 });
      return fd;
    },
    closeSync(fd) {
      real.closeSync(fd);
      watched.delete(fd);
    },
    writeFileSync(path, data, options) {
      const below = inside(path);
      if (below === null) return real.writeFileSync(path, data, options);
      if (data !== '' || typeof options !== 'object') throw new Error(`not modelled: a whole file written at ${below}`);
      fs.closeSync(fs.openSync(path as string, O_CREAT | O_TRUNC | real.constants.O_WRONLY, options?.mode));
    },
    truncateSync(path, size) {
      const fd = fs.openSync(path, real.constants.O_RDWR);
      fs.ftruncateSync(fd, size);
      fs.closeSync(fd);
    },
    ftruncateSync(fd, size) {
      real.ftruncateSync(fd, size);
      if (watched.has(fd)) tell({ op: 'cut', fd, size: size ?? 0 });
    },
    fsyncSync(fd) {
      real.fsyncSync(fd);
      if (watched.has(fd)) tell({ op: 'sync', fd });
    },
    fdatasyncSync(fd) {
      real.fdatasyncSync(fd);
      if (watched.has(fd)) tell({ op: 'sync', fd });
    },
    renameSync(from, to) {
      real.renameSync(from, to);
      const [path, target] = [inside(from), inside(to)];
      if (path !== null && target !== null) tell({ op: 'rename', path, to: target });
    },
    unlinkSync(path) {
      real.unlinkSync(path);
      const below = inside(path);
      if (below !== null) tell({ op: 'remove', path: below });
    },
    rmdirSync(path) {
      real.rmdirSync(path);
      const below = inside(path);
      if (below !== null) tell({ op: 'remove', path: below });
    },
    symlinkSync(_target, path) {
      throw new Error(`not modelled: a symbolic link at ${String(path)}`);
    },
  };
  const writeSync = (
    fd: number,
    buffer: NodeJS.ArrayBufferView,
    offset: number,
    length: number,
    position: number,
  ): number => {
    const written = real.writeSync(fd, buffer, offset, length, position);
    if (watched.has(fd)) {
      if (typeof position !== 'number') throw new Error('not modelled: a write without a position');
      tell({ op: 'write', fd, position, bytes: Buffer.from(buffer.buffer, buffer.byteOffset + offset, written) });
    }
    return written;
  };
  const mkdirSync = (path: string, options: fs.MakeDirectoryOptions): void => {
    real.mkdirSync(path, options);
    const below = inside(path);
    if (below !== null) tell({ op: 'makeFolder', path: below });
  };
  Object.assign(fs, replaced, { writeSync, mkdirSync });
  // The product imports the functions by name.
  syncBuiltinESMExports();
}
