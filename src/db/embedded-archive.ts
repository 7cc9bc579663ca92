import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { constants, gunzip, gzip } from 'node:zlib';
import { inParallel } from './embedded-folder.js';
import { readMigrations } from './migrate.js';

/**
 * The prepared cluster: what `initdb` and the migrations make, kept in one file beside this one, because unpacking it takes a tenth of a
 * second and making it takes seconds. The build makes it; without it, or with one that does not fit, the engine makes the cluster.
 *
 * It holds the schema and no row of a tenant, and no secret: the installation's are made by its first start. Every folder unpacked
 * from it has the same system identifier, which matters to physical replication and restore alone; the embedded engine has neither.
 *
 * Its first line is `<key> <SHA-256 of the rest>`; the rest is gzip of a line of JSON (`Contents`) and of the files, one after the other.
 */
export const archivePath = fileURLToPath(new URL('./empty-cluster.gz', import.meta.url));

interface Contents {
  /** Parents before their children. */
  readonly folders: readonly string[];
  readonly files: readonly { readonly path: string; readonly bytes: number }[];
}

const gzipAsync = promisify(gzip);
const gunzipAsync = promisify(gunzip);

/** A cluster is 24 MB. In one piece: gathered from many small ones, unpacking took twice as long. */
const unpackedBytesMax = 32 * 1024 * 1024;

/**
 * Unpacks the archive into the empty `folder`, syncing nothing. Resolves with nothing when that is done; else with the reason why the archive
 * cannot be used, and then the folder is as it was. Rejects when the folder cannot be written.
 */
export async function unpackArchive(folder: string, archive: string = archivePath): Promise<string | undefined> {
  let bytes: Buffer;
  let key: string;
  try {
    [bytes, key] = await Promise.all([readFile(archive), archiveKey()]);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return code === 'ENOENT'
      ? 'this build has no prepared database'
      : `the prepared database cannot be read: ${message}`;
  }
  const body = bytes.subarray(bytes.indexOf('\n') + 1);
  const header = bytes.toString('latin1', 0, bytes.length - body.length);
  if (header !== headerOf(key, body)) {
    return header.startsWith(`${key} `)
      ? `the prepared database ${archive} is damaged: its checksum does not match`
      : `the prepared database ${archive} belongs to another build of the engine`;
  }
  const unpacked = await gunzipAsync(body, { chunkSize: unpackedBytesMax, maxOutputLength: unpackedBytesMax });
  const start = unpacked.indexOf('\n') + 1;
  const { folders, files } = JSON.parse(unpacked.toString('utf8', 0, start)) as Contents;
  for (const path of folders) await mkdir(join(folder, path), { mode: 0o700 });
  let end = start;
  const writes = files.map((file) => ({ path: file.path, content: unpacked.subarray(end, (end += file.bytes)) }));
  await inParallel(writes, ({ path, content }) => writeFile(join(folder, path), content, { mode: 0o600 }));
  return undefined;
}

/** The archive of a folder. */
export async function pack(folder: string, key: string): Promise<Buffer> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = (kind: 'isFile' | 'isDirectory'): string[] =>
    entries
      .filter((entry) => entry[kind]())
      .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
      .toSorted();
  const files = await Promise.all(
    paths('isFile').map(async (path) => ({ path, content: await readFile(join(folder, path)) })),
  );
  const contents: Contents = {
    folders: paths('isDirectory'),
    files: files.map(({ path, content }) => ({ path, bytes: content.length })),
  };
  const plain = Buffer.concat([Buffer.from(`${JSON.stringify(contents)}\n`), ...files.map(({ content }) => content)]);
  const body = await gzipAsync(plain, { level: constants.Z_DEFAULT_COMPRESSION });
  return Buffer.concat([Buffer.from(headerOf(key, body), 'latin1'), body]);
}

/** What a cluster depends on: the engine's version, the migrations, and the code that makes the cluster and the archive. Another one of these, another key. */
export async function archiveKey(): Promise<string> {
  const library = dirname(fileURLToPath(import.meta.resolve('@electric-sql/pglite')));
  const sources = [
    join(library, '..', 'package.json'),
    siblingPath('embedded-engine'),
    siblingPath('embedded-archive'),
    siblingPath('make-archive'),
    siblingPath('migrate'),
    siblingPath('sql/secrets'),
  ];
  const hash = createHash('sha256');
  for (const source of sources) hash.update(await readFile(source));
  for (const { name, text } of readMigrations()) hash.update(`${name}\n${text}`);
  return hash.digest('hex').slice(0, 16);
}

/** A module beside this one, as it runs: built or, in development, as source. */
function siblingPath(name: string): string {
  const self = fileURLToPath(import.meta.url);
  return join(dirname(self), `${name}${self.slice(self.lastIndexOf('.'))}`);
}

/** Whether the archive is whole and belongs to `key`. */
export async function fits(archive: string, key: string): Promise<boolean> {
  try {
    const bytes = await readFile(archive);
    const length = bytes.indexOf('\n') + 1;
    return bytes.toString('latin1', 0, length) === headerOf(key, bytes.subarray(length));
  } catch {
    return false;
  }
}

function headerOf(key: string, body: Buffer): string {
  return `${key} ${createHash('sha256').update(body).digest('hex')}\n`;
}
