import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

/**
 * A built module of `src/` with one protection taken out, so that a test can show that it notices. `built` is the module below `src/`, as built;
 * `protection` must occur in it exactly once. Its own imports are those of the program.
 */
export async function importMutant<Module>(built: string, protection: string, instead: string): Promise<Module> {
  const original = new URL(`../../src/${built}`, import.meta.url);
  const pieces = (await readFile(original, 'utf8')).split(protection);
  assert.equal(pieces.length, 2, `${built} has no single "${protection}" to take out`);
  const mutant = new URL(`${original.href.replace(/\.js$/, '')}.mutant-${randomBytes(6).toString('hex')}.js`);
  const path = fileURLToPath(mutant);
  await writeFile(path, pieces.join(instead));
  try {
    return (await import(mutant.href)) as Module;
  } finally {
    await rm(path);
  }
}
