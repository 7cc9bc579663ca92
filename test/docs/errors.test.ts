import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { errorTable } from '../../src/errors.js';
import { documentationRoutes } from '../../src/http/routes/documentation.js';
import { documentPath } from '../support/document.js';

const text = readFileSync(documentPath('errors.md'), 'utf8');
const table = Object.entries(errorTable).map(([code, { status }]) => ({ code, status }));

test('the document has a section for each code, in the order of the table, with its status', () => {
  const sections = Array.from(text.matchAll(/^## (\S+)\n\n(\d{3})\. ./gm), ([, code, status]) => ({
    code,
    status: Number(status),
  }));
  assert.deepEqual(sections, table);
  assert.equal(text.match(/^## /gm)?.length, table.length, 'a section that is no code, or opens without a status');
});

test('the served page that a problem links to has an anchor for each code, and no other', async () => {
  const page = documentationRoutes(() => []).find(({ path }) => path === '/docs/errors');
  assert.equal(page?.access, 'public');
  const body = String((await page.handler({ request: { headers: {} } } as never)).body);
  const anchors = Array.from(body.matchAll(/<h2 id="([^"]+)">.*?<p>(\d{3})/g), ([, code, status]) => ({
    code,
    status: Number(status),
  }));
  assert.deepEqual(anchors, table);
});
