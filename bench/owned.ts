/** What this process has started or made, so that nothing of it is left when it ends, by a signal in the middle of a round too: then at once. */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const children = new Set<ChildProcess>();
const folders = new Set<string>();

process.once('exit', () => {
  for (const child of children) child.kill('SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});

/** The same child, which is killed if it is still there at the end. */
export function owned<Child extends ChildProcess>(child: Child): Child {
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

/** A new folder for temporary files, and how to remove it. */
export function ownedFolder(prefix: string): { readonly path: string; readonly remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), prefix));
  folders.add(path);
  const remove = (): void => {
    rmSync(path, { recursive: true, force: true, maxRetries: 5 });
    folders.delete(path);
  };
  return { path, remove };
}
