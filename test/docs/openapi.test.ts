import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import { errorTable } from '../../src/errors.js';
import { documentPath } from '../support/document.js';
import { builtDocument } from '../support/documented.js';

type Node = Readonly<Record<string, unknown>>;

const built = JSON.parse(JSON.stringify(builtDocument())) as Node;

test('the document in docs/ is the one that the code makes; else run npm run openapi', () => {
  const committed: unknown = JSON.parse(readFileSync(documentPath('openapi.json'), 'utf8'));
  assert.deepEqual(built, committed, 'docs/openapi.json is not what the code makes. Run: npm run openapi');
});

test('the document is valid OpenAPI 3.1, as an independent validator reads it', async () => {
  const validator = new Validator();
  assert.deepEqual(await validator.validate(structuredClone(built)), { valid: true });
  assert.equal(validator.version, '3.1');
  // A validator that takes everything would prove nothing.
  const { valid } = await new Validator().validate({
    ...structuredClone(built),
    paths: { x: { get: { responses: [] } } },
  });
  assert.equal(valid, false);
});

test('every reference leads somewhere, and every component is referred to', () => {
  const references = new Set<string>();
  walk(built, (node) => {
    if (typeof node['$ref'] === 'string') references.add(node['$ref']);
  });
  const components = Object.entries(built['components'] as Record<string, Node>)
    .filter(([kind]) => kind !== 'securitySchemes')
    .flatMap(([kind, named]) => Object.keys(named).map((name) => `#/components/${kind}/${name}`));
  assert.deepEqual([...references].toSorted(), components.toSorted());
});

test('every field and parameter is described, every operation has a summary', () => {
  const bare: string[] = [];
  walk(built, (node, path) => {
    for (const [name, field] of Object.entries((node['properties'] ?? {}) as Record<string, Node>)) {
      // The codes of a refusal narrow what is described elsewhere.
      if (node['type'] === 'object' && typeof field['description'] !== 'string') bare.push(`${path}/${name}`);
    }
    if ('in' in node && typeof node['description'] !== 'string') bare.push(path);
    if ('operationId' in node && typeof node['summary'] !== 'string') bare.push(path);
  });
  assert.deepEqual(bare, []);
});

test('every error code is one that some route gives', () => {
  const given = new Set<string>();
  walk(built, (node, path) => {
    if (path.endsWith('/allOf/1/properties/code')) for (const code of node['enum'] as string[]) given.add(code);
  });
  // The one is of an item of a batch only, the other of a path that has other methods.
  const elsewhere = ['method_not_allowed', 'not_stored'];
  assert.deepEqual([...given, ...elsewhere].toSorted(), Object.keys(errorTable).toSorted());
});

function walk(node: unknown, visit: (node: Node, path: string) => void, path = ''): void {
  if (typeof node !== 'object' || node === null) return;
  if (!Array.isArray(node)) visit(node as Node, path);
  // What examples hold is data.
  for (const [name, inner] of Object.entries(node)) if (name !== 'examples') walk(inner, visit, `${path}/${name}`);
}
