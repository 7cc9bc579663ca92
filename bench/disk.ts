import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';

/** As the kernel counts them, whatever the disk's own are. */
const sectorBytes = 512;
const syncMsMax = 10_000;

/**
 * Bytes that the disk with the temporary folder has written so far, whoever had it write them. What the kernel counts for each process would be too much by
 * several times where it keeps files in large pages: one counts whole, however little of it was changed. Null where that disk has no figures: outside of
 * Linux, or behind a file system that is made of others.
 */
export function writtenToDisk(): number | null {
  try {
    // Reads, reads merged, sectors read, milliseconds, writes, writes merged, sectors written.
    const written = readFileSync(figuresOfDisk(), 'utf8').trim().split(/\s+/)[6];
    return written === undefined ? null : Number(written) * sectorBytes;
  } catch {
    return null;
  }
}

/** Waits, for 10 s at most, until what the system holds back for that disk is written. */
export function settleDisk(): void {
  try {
    statSync(figuresOfDisk());
    execFileSync('sync', ['-f', tmpdir()], { stdio: 'ignore', timeout: syncMsMax });
  } catch {
    // There is nothing to be read afterwards, or the figure is a little too small.
  }
}

function figuresOfDisk(): string {
  const { dev } = statSync(tmpdir());
  // As the C library takes a device's number apart.
  const [major, minor] = [(dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00)];
  return `/sys/dev/block/${major}:${minor}/stat`;
}
