import { readFileSync } from 'node:fs';

/** The version in package.json, which lies three levels above this module once built. */
export function version(): string {
  const manifest: { version: string } = JSON.parse(
    readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
  );
  return manifest.version;
}
