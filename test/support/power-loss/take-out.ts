import { register } from 'node:module';

/** What can be taken out of the product as it is loaded. The engine's own check at start would refuse to go on without them, so it goes too. */
const protections: Readonly<Record<string, readonly Edit[]>> = {
  'the log is synced by fsync': [{ module: '/db/embedded-engine.js', text: `wal_sync_method: 'fsync',`, instead: '' }],
  'files are synced': [{ module: '/db/embedded-engine.js', text: 'if (!syncFiles)', instead: 'if (syncFiles)' }],
};
const selfTest: Edit = {
  module: '/db/embedded-self-test.js',
  text: 'export async function verifyDurability(session, fsyncs) {',
  instead: 'export async function verifyDurability(session, fsyncs) { return;',
};

export interface Edit {
  /** How the module's address ends. */
  readonly module: string;
  /** Occurs in it exactly once. */
  readonly text: string;
  readonly instead: string;
}

/** From now on this thread's program loads the product without `protection`. */
export function takeOut(protection: string): void {
  const edits = protections[protection];
  if (edits === undefined) throw new Error(`there is no protection "${protection}"`);
  register('./take-out-hook.js', import.meta.url, { data: [...edits, selfTest] });
}
