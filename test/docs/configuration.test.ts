import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { flagOf, laterSettings, settings } from '../../src/settings.js';
import { documentPath, tableRows } from '../support/document.js';

const text = readFileSync(documentPath('configuration.md'), 'utf8');
const [current = [], later = []] = tableRows(text);

test('the document lists each setting with its variable, flag, default, unit and meaning as the program has them', () => {
  const expected = Object.values(settings).map((row) => [
    `\`${row.variable}\``,
    `\`--${flagOf(row.variable)}\``,
    row.default === null ? 'none' : `\`${row.default}\``,
    row.type.placeholder,
    row.help,
  ]);
  assert.deepEqual(current, expected);
});

test('the document lists each name that does nothing yet', () => {
  const expected = laterSettings.map((row) => [`\`${row.variable}\``, `\`--${flagOf(row.variable)}\``, 'any']);
  assert.deepEqual(later, expected);
});
