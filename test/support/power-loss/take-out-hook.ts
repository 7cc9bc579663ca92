import type { LoadHook } from 'node:module';
import type { Edit } from './take-out.js';

/** A hook of Node's module loader that edits modules as they are loaded. */
let edits: readonly Edit[] = [];

export function initialize(given: readonly Edit[]): void {
  edits = given;
}

export const load: LoadHook = async (url, context, nextLoad) => {
  const loaded = await nextLoad(url, context);
  let source: string | undefined;
  for (const { module, text, instead } of edits) {
    if (!url.endsWith(module)) continue;
    const pieces = (source ?? Buffer.from(loaded.source as Uint8Array).toString()).split(text);
    if (pieces.length !== 2) throw new Error(`${url} has no single "${text}" to take out`);
    source = pieces.join(instead);
  }
  return source === undefined ? loaded : { ...loaded, source };
};
