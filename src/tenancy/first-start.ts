import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { Orgs } from './orgs.js';

export interface AdminToken {
  readonly value: string;
  /** The file that keeps it; null where it was given. */
  readonly path: string | null;
  readonly isNew: boolean;
}

/** The admin token: as given, else the one kept in the data folder, which is made at the first start. */
export async function adminToken(given: string | null, dataDir: string): Promise<AdminToken> {
  if (given !== null) return { value: given, path: null, isNew: false };
  const path = join(dataDir, 'admin-token');
  if (existsSync(path)) {
    const kept = (await readFile(path, 'utf8')).trim();
    if (/^[\x21-\x7e]{16,256}$/.test(kept)) return { value: kept, path, isNew: false };
    throw new Error(`${path} holds no admin token of 16 to 256 printable characters; delete it, and a new one is made`);
  }
  const value = `slk_admin_${randomBytes(32).toString('base64url')}`;
  await writeDurably(path, `${value}\n`);
  return { value, path, isNew: true };
}

export interface FirstStart {
  readonly orgName: string;
  readonly key: string;
}

const demo = 'demo';
const shownFile = 'first-key-shown';

/**
 * On the first start in a data folder, the org `demo` with a key that can be shown only now. A start that was killed before it showed the
 * key is not the first one's end: the next start makes another key. Null afterwards, and where there are orgs of somebody else's making.
 */
export async function firstStart(orgs: Orgs, dataDir: string): Promise<FirstStart | null> {
  if (existsSync(join(dataDir, shownFile))) return null;
  const created = await orgs.createFirst(demo, 'enterprise');
  if (created !== null) return { orgName: demo, key: created.key.secret };
  const [first, second] = await orgs.list('0', 2);
  if (first?.name !== demo || second !== undefined) return null;
  return { orgName: demo, key: (await orgs.replaceFirstKey(first.org)).secret };
}

/** The key was shown: from now on no start shows one. */
export async function firstKeyShown(dataDir: string): Promise<void> {
  await writeDurably(join(dataDir, shownFile), 'Sluice has shown the key of the org demo.\n');
}

/** A reader finds the whole file or none, also after a power loss. Only this user may read it. */
async function writeDurably(path: string, text: string): Promise<void> {
  const temporary = `${path}.new`;
  const file = await open(temporary, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  const folder = await open(join(path, '..'), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
