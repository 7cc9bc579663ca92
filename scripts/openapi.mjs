/**
 * `npm run openapi`: writes docs/openapi.json as the code makes it. `npm run openapi -- --release` writes docs/openapi.released.json besides, which
 * later documents are held against: at a release, or for a breaking change that is meant.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { prepare, root } from './prepare.mjs';

await prepare();
const { documentOf } = await import('../dist/src/http/routes/documentation.js');
const { routeTable } = await import('../dist/src/http/routes/table.js');
// Making the table does nothing, so the routes need no parts to work with.
const document = documentOf(routeTable({}));
write('openapi.json', document);
if (process.argv.includes('--release')) write('openapi.released.json', withoutProse(document));

function write(name, value) {
  writeFileSync(join(root, 'docs', name), `${formatted(value, '')}\n`);
}

/** What a client depends on: no texts, no examples. */
function withoutProse(value) {
  if (Array.isArray(value)) return value.map(withoutProse);
  if (typeof value !== 'object' || value === null) return value;
  const isProse = ([name, inner]) =>
    (typeof inner === 'string' && /^(description|summary)$/.test(name)) || (name === 'examples' && 'schema' in value);
  const kept = Object.entries(value).filter((member) => !isProse(member));
  return Object.fromEntries(kept.map(([name, inner]) => [name, withoutProse(inner)]));
}

/** What fits in a line stands in one, so that a change shows in a diff as the lines that it is. */
function formatted(value, indent) {
  const line = JSON.stringify(value);
  if (typeof value !== 'object' || value === null || indent.length + line.length <= 120) return line;
  const deeper = `${indent}  `;
  const [open, close] = Array.isArray(value) ? '[]' : '{}';
  const parts = Array.isArray(value)
    ? value.map((item) => deeper + formatted(item, deeper))
    : Object.entries(value).map(([name, item]) => `${deeper}${JSON.stringify(name)}: ${formatted(item, deeper)}`);
  return `${open}\n${parts.join(',\n')}\n${indent}${close}`;
}
