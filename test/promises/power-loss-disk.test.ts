import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Disk } from '../support/power-loss/disk.js';
import { Random } from '../support/power-loss/random.js';
import type { FileRecord } from '../support/power-loss/trace.js';

const losses = 60;
const old = Buffer.alloc(8192, 'o');
const fresh = Buffer.alloc(8192, 'n');
const open: FileRecord = { op: 'open', fd: 3, path: 'file', create: false, cut: false };
const write: FileRecord = { op: 'write', fd: 3, position: 0, bytes: fresh };
const rename: FileRecord = { op: 'rename', path: 'file', to: 'renamed' };

describe('a disk that loses its power', () => {
  let folder: string;
  let base: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'sluice-disk-'));
    base = join(folder, 'base');
    mkdirSync(base);
    writeFileSync(join(base, 'file'), old);
  });
  after(() => rmSync(folder, { recursive: true }));

  /** What is at `path` after each of many losses of power behind `records`; null: nothing. */
  function outcomes(records: readonly FileRecord[], path = 'file'): (Buffer | null)[] {
    const disk = new Disk(base);
    for (const record of records) disk.apply(record);
    return Array.from({ length: losses }, (_, seed) => {
      const target = join(folder, 'after');
      disk.losePower(target, new Random(seed));
      const found = existsSync(join(target, path)) ? readFileSync(join(target, path)) : null;
      rmSync(target, { recursive: true });
      return found;
    });
  }

  it('may keep, lose or tear a page that was not synced, and tears between sectors only', () => {
    const newBytes = outcomes([open, write]).map((content) => content?.lastIndexOf('n') ?? NaN);
    assert.ok(newBytes.includes(-1) && newBytes.includes(8191));
    assert.ok(newBytes.some((last) => last > 0 && last < 8191));
    for (const last of newBytes) assert.equal((last + 1) % 512, 0);
  });

  it('keeps a page that was synced', () => {
    for (const content of outcomes([open, write, { op: 'sync', fd: 3 }])) assert.deepEqual(content, fresh);
  });

  it('may forget that a file grew, and not once it was synced', () => {
    const grow: FileRecord = { ...write, position: 8192 };
    const sizes = new Set(outcomes([open, grow]).map((content) => content?.length));
    assert.deepEqual(sizes, new Set([8192, 16_384]));
    for (const content of outcomes([open, grow, { op: 'sync', fd: 3 }]))
      assert.deepEqual(content?.subarray(8192), fresh);
  });

  it('may undo a truncation, and not once the file was synced', () => {
    const cut: FileRecord = { op: 'cut', fd: 3, size: 0 };
    const sizes = new Set(outcomes([open, cut]).map((content) => content?.length));
    assert.deepEqual(sizes, new Set([0, 8192]));
    for (const content of outcomes([open, cut, { op: 'sync', fd: 3 }])) assert.equal(content?.length, 0);
  });

  it('may undo a rename, and not once its folder was synced; a file is never gone meanwhile', () => {
    const isRenamed = outcomes([rename], 'renamed').map((content) => content !== null);
    assert.ok(isRenamed.includes(true) && isRenamed.includes(false));
    assert.deepEqual(
      outcomes([rename]).map((content) => content === null),
      isRenamed,
    );
    const folderSync: FileRecord[] = [
      { ...open, path: '' },
      { op: 'sync', fd: 3 },
    ];
    for (const content of outcomes([rename, ...folderSync], 'renamed')) assert.deepEqual(content, old);
  });

  it('undoes later changes before earlier ones', () => {
    const records: FileRecord[] = [
      { op: 'makeFolder', path: 'folder' },
      { op: 'rename', path: 'file', to: 'folder/file' },
    ];
    const moved = outcomes(records, 'folder/file');
    const made = outcomes([...records, { ...open, path: 'folder/file' }, { op: 'sync', fd: 3 }], 'folder/file');
    assert.ok(moved.some((content) => content === null));
    for (const content of made) assert.deepEqual(content, old);
  });
});
