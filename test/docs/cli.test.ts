import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { clientCommands, clientSettings } from '../../src/client-commands.js';
import { documentPath, tableRows } from '../support/document.js';

// A bar inside a cell is escaped.
const text = readFileSync(documentPath('cli.md'), 'utf8').replaceAll('\\|', '/');
const [settings = [], commands = []] = tableRows(text);

test('the document lists the settings of the commands as the program has them', () => {
  const expected = clientSettings.map(({ variable, flag, default: otherwise, help }) => [
    `\`${variable}\``,
    `\`--${flag}\``,
    otherwise === null ? 'none' : `\`${otherwise}\``,
    help,
  ]);
  assert.deepEqual(settings, expected);
});

test('the document lists each command with its use and what it does', () => {
  const expected = Object.values(clientCommands).flatMap(({ usage, help }) =>
    usage.map((line, i) => [`\`${line.replaceAll('|', '/')}\``, i === 0 ? help : '']),
  );
  assert.deepEqual(commands, expected);
});
