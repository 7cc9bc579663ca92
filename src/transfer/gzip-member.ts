/**
 * Gzip members (RFC 1952) that say how long they are, in an extra field `SL`: so a reader steps from one to the next without inflating, and knows
 * a member that was cut. To every other reader of gzip the file is an ordinary one.
 */
import type { FileHandle } from 'node:fs/promises';
import { promisify } from 'node:util';
import { crc32, deflateRaw, inflateRaw } from 'node:zlib';

const deflate = promisify<Buffer, { level: number }, Buffer>(deflateRaw);
const inflate = promisify<Buffer, { maxOutputLength: number }, Buffer>(inflateRaw);

/** Deflate with an extra field of 8 bytes, which is `SL`, its length 4, and the length of the whole member. No time, no name, no system. */
const beginning = Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 8, 0, 0x53, 0x4c, 4, 0]);
const headerBytes = beginning.length + 4;
const trailerBytes = 8;
/** The fastest level that still finds what an event repeats of its neighbours. */
const level = 4;

export const gzipMagic = beginning.subarray(0, 2);

export async function gzipMember(content: Buffer): Promise<Buffer> {
  const body = await deflate(content, { level });
  const member = Buffer.allocUnsafe(headerBytes + body.length + trailerBytes);
  beginning.copy(member);
  member.writeUInt32LE(member.length, beginning.length);
  body.copy(member, headerBytes);
  member.writeUInt32LE(crc32(content), headerBytes + body.length);
  member.writeUInt32LE(content.length, headerBytes + body.length + 4);
  return member;
}

/** Whether `bytes`, the first of a file, begin as a member does; fewer bytes than that must be its beginning. */
export function beginsAsMember(bytes: Buffer): boolean {
  const length = Math.min(bytes.length, beginning.length);
  return bytes.subarray(0, length).equals(beginning.subarray(0, length));
}

/** The member at `offset`, and where the next one begins; null where there is no whole one, or it is damaged or inflates to more than `bytesMax`. */
export async function readMember(
  file: FileHandle,
  offset: number,
  bytesMax: number,
): Promise<{ readonly content: Buffer; readonly end: number } | null> {
  const header = await readFully(file, offset, headerBytes);
  if (header === null || !header.subarray(0, beginning.length).equals(beginning)) return null;
  const length = header.readUInt32LE(beginning.length);
  if (length < headerBytes + trailerBytes || length > bytesMax) return null;
  const member = await readFully(file, offset, length);
  if (member === null) return null;
  try {
    const content = await inflate(member.subarray(headerBytes, -trailerBytes), { maxOutputLength: bytesMax });
    const sound =
      crc32(content) === member.readUInt32LE(length - trailerBytes) &&
      content.length === member.readUInt32LE(length - 4);
    return sound ? { content, end: offset + length } : null;
  } catch {
    return null;
  }
}

async function readFully(file: FileHandle, offset: number, length: number): Promise<Buffer | null> {
  const bytes = Buffer.allocUnsafe(length);
  let got = 0;
  while (got < length) {
    const { bytesRead } = await file.read(bytes, got, length - got, offset + got);
    if (bytesRead === 0) return null;
    got += bytesRead;
  }
  return bytes;
}
