import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { errorTable } from '../../src/errors.js';
import { limits } from '../../src/http/limits.js';
import { documentPath, tableRows } from '../support/document.js';

const rows = Object.values(limits);

test('the document lists each limit with its value and what happens beyond it, as the program has them', () => {
  const [documented = []] = tableRows(readFileSync(documentPath('limits.md'), 'utf8'));
  const expected = rows.map(({ what, value, unit, beyond }) => [
    what,
    `${value.toLocaleString('en-US')} ${unit}`.trim(),
    beyond,
  ]);
  assert.deepEqual(documented, expected);
});

test('what a limit is refused with is in the table of errors', () => {
  const named = rows.flatMap(({ beyond }) =>
    Array.from(beyond.matchAll(/(\d{3}) `(\w+)`/g), ([, status, code]) => ({ status, code })),
  );
  assert.ok(named.length > 30);
  for (const { status, code } of named) {
    const row = Object.entries(errorTable).find(([name]) => name === code)?.[1];
    assert.equal(row?.status, Number(status), code);
  }
});
