import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Database } from '../db/database.js';
import { findHead } from '../db/sql/transfer.js';
import { newWriting } from './chunk-writer.js';
import type { WritingState } from './chunk-writer.js';
import { chunkBytesMax, FormatError, headerLine, lineBytesMax } from './format.js';
import { beginsAsMember, gzipMagic, readMember } from './gzip-member.js';
import { ChunkReader, NotAnExport } from './read-chunks.js';

/** A file that an export is written to. */
export interface ExportFile {
  readonly handle: FileHandle;
  /** Where to go on. */
  readonly state: WritingState;
  /** Bytes that stand in the file already. */
  readonly offset: number;
  readonly gzip: boolean;
  /** It has its last line: there is nothing to write. */
  readonly isComplete: boolean;
}

/** Why a file cannot be exported to, as a sentence for whoever asked for it. */
export class ExportRefused extends Error {
  override readonly name = 'ExportRefused';
}

/** What is in an export is for its owner only: payloads, and hashes of keys. */
const fileMode = 0o600;

/** A new file. Rejects with `ExportRefused` if there is one of that name. */
export async function createExportFile(path: string, gzip: boolean): Promise<ExportFile> {
  try {
    return { handle: await open(path, 'wx', fileMode), state: newWriting(), offset: 0, gzip, isComplete: false };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    throw new ExportRefused(`${path} exists: go on with it by --resume, or give another name`);
  }
}

/**
 * A file whose export was cut, opened where it can go on: after the last chunk that is whole, sound, and not in the middle of an org's state. Nothing is
 * cut off yet. Rejects with `ExportRefused`, without a change to the file, if it is no export of this version and schema.
 */
export async function reopenExportFile(path: string, gzipIfEmpty: boolean, schemaVersion: number): Promise<ExportFile> {
  let handle: FileHandle;
  try {
    handle = await open(path, 'r+');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new ExportRefused(`there is no ${path} to go on with; leave --resume out`);
  }
  try {
    const gzip = await isGzip(handle, path, gzipIfEmpty);
    return { handle, gzip, ...(await findEnd(handle, path, gzip, schemaVersion)) };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Cuts off what stands behind the last sound chunk. */
export async function truncateExport({ handle, offset }: ExportFile): Promise<void> {
  await handle.truncate(offset);
}

/** What writes the next chunk behind the last. */
export function appendTo({ handle, offset }: ExportFile): (bytes: Buffer) => Promise<void> {
  let end = offset;
  return async (bytes) => {
    for (let written = 0; written < bytes.length;) {
      written += (await handle.write(bytes, written, bytes.length - written, end + written)).bytesWritten;
    }
    end += bytes.length;
  };
}

/** Resolves when the file, and its name in its folder, are on disk. */
export async function syncExport({ handle }: ExportFile, path: string): Promise<void> {
  await handle.sync();
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Rejects with `ExportRefused` unless the last org in the file is that of this database, unchanged but for what came after it. */
export async function requireSameSource(database: Database, { state }: ExportFile): Promise<void> {
  const { head, lastOrg } = state.outline;
  if (head === null) return;
  const now = await findHead(database, lastOrg);
  if (now !== null && now.epoch === head.epoch && Number(now.position) >= head.position) return;
  throw new ExportRefused(
    'the file was exported from another database, or before this one was restarted or restored; go on with that one, or give another name',
  );
}

async function isGzip(handle: FileHandle, path: string, ifEmpty: boolean): Promise<boolean> {
  const start = Buffer.alloc(64);
  const { bytesRead } = await handle.read(start, 0, start.length, 0);
  const bytes = start.subarray(0, bytesRead);
  if (bytes.length === 0) return ifEmpty;
  if (bytes[0] !== gzipMagic[0]) return false;
  if (beginsAsMember(bytes)) return true;
  throw new ExportRefused(`${path} is not as \`sluice export\` writes it, so it cannot go on; give another name`);
}

async function findEnd(
  handle: FileHandle,
  path: string,
  gzip: boolean,
  schemaVersion: number,
): Promise<Pick<ExportFile, 'state' | 'offset' | 'isComplete'>> {
  const memberEnds = new Map<number, number>();
  const reader = new ChunkReader();
  let last = { state: newWriting(), offset: 0 };
  try {
    for await (const chunk of reader.read(gzip ? gzipText(handle, memberEnds) : plainText(handle))) {
      if (reader.schemaVersion !== schemaVersion) {
        throw new ExportRefused(`${path} was begun at another version of the schema; give another name`);
      }
      const offset = gzip ? memberEnds.get(reader.textBytes) : reader.textBytes;
      if (offset === undefined || !reader.outline.isResumable) continue;
      last = { state: { outline: reader.outline.copy(), hash: reader.hash, chunks: chunk.number }, offset };
    }
    return { ...last, isComplete: true };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    // What is no export at all is somebody's file.
    const isOurs = reader.schemaVersion > 0 || gzip || (await beginsAsHeader(handle, schemaVersion));
    if (error instanceof NotAnExport || !isOurs) throw new ExportRefused(`${path} is no export; give another name`);
    return { ...last, isComplete: false };
  }
}

/** Whether a file without a whole first line is the beginning of one. */
async function beginsAsHeader(handle: FileHandle, schemaVersion: number): Promise<boolean> {
  const start = Buffer.alloc(256);
  const { bytesRead } = await handle.read(start, 0, start.length, 0);
  return headerLine(schemaVersion).startsWith(start.toString('latin1', 0, bytesRead));
}

const pieceBytes = 1024 * 1024;

export async function* plainText(handle: FileHandle): AsyncGenerator<Buffer> {
  for (let offset = 0; ;) {
    // A new one each time, because lines are parts of it.
    const piece = Buffer.allocUnsafe(pieceBytes);
    const { bytesRead } = await handle.read(piece, 0, pieceBytes, offset);
    if (bytesRead === 0) return;
    yield piece.subarray(0, bytesRead);
    offset += bytesRead;
  }
}

/** The text of whole, sound members; notes at which byte of the file that of a text ends. */
async function* gzipText(handle: FileHandle, memberEnds: Map<number, number>): AsyncGenerator<Buffer> {
  let textBytes = 0;
  for (let offset = 0; ;) {
    const member = await readMember(handle, offset, memberBytesMax);
    if (member === null) return;
    textBytes += member.content.length;
    memberEnds.set(textBytes, member.end);
    yield member.content;
    offset = member.end;
  }
}

const memberBytesMax = chunkBytesMax + 2 * lineBytesMax;
