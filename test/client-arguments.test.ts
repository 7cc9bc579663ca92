import assert from 'node:assert/strict';
import { test } from 'node:test';
import { commandHelpText } from '../src/cli/help.js';
import { readClientArguments } from '../src/client-arguments.js';
import type { ClientInvocation } from '../src/client-arguments.js';
import { clientCommands, clientSettings } from '../src/client-commands.js';

function read(args: readonly string[], environment: Record<string, string> = {}): Omit<ClientInvocation, 'notices'> {
  const result = readClientArguments(args, environment);
  assert.ok(result?.kind === 'client', JSON.stringify(result));
  return result;
}

function problems(...args: readonly string[]): readonly string[] {
  const result = readClientArguments(args, {});
  assert.ok(result?.kind === 'wrong', JSON.stringify(result));
  return result.problems;
}

test('a flag wins over its variable, an empty variable counts as absent, and there is a server by default', () => {
  const variables = { SLUICE_URL: 'http://v', SLUICE_KEY: 'vk', SLUICE_ADMIN_TOKEN: 'vt' };
  const settingsOf = ({ url, key, adminToken }: Omit<ClientInvocation, 'notices'>) => [url, key, adminToken];
  assert.deepEqual(settingsOf(read(['receive'], variables)), ['http://v', 'vk', 'vt']);
  const flags = ['--url', 'http://f', '--key=fk', '--admin-token', 'ft'];
  assert.deepEqual(settingsOf(read(['receive', ...flags], variables)), ['http://f', 'fk', 'ft']);
  const empty = { SLUICE_URL: '', SLUICE_KEY: '', SLUICE_ADMIN_TOKEN: '' };
  assert.deepEqual(settingsOf(read(['receive'], empty)), ['http://127.0.0.1:8080', null, null]);
});

test('arguments, values, switches and what follows -- are told apart', () => {
  const { command, arguments: given, values, switches } = read(['keys', 'create', 'name', '--scopes', 'a,b']);
  assert.deepEqual([command, given, [...values], [...switches]], ['keys create', ['name'], [['scopes', ['a,b']]], []]);
  assert.deepEqual(read(['tail', '--type', 'a', '--type=b.*']).values.get('type'), ['a', 'b.*']);
  assert.deepEqual(read(['send', 'a.b', '--', '-1']).arguments, ['a.b', '-1']);
  assert.deepEqual(read(['send', '-']).arguments, ['-']);
  assert.deepEqual(read(['send', '--file', '-']).values.get('file'), ['-']);
  assert.ok(read(['receive', '--ack']).switches.has('ack'));
});

test('what cannot be understood is refused, all of it at once', () => {
  assert.equal(readClientArguments(['start'], {}), null);
  assert.equal(readClientArguments([], {}), null);
  assert.equal(problems('receive', 'extra', '--max', '0', '--ack=yes', '--wait').length, 4);
  assert.deepEqual(problems('receive', '--inbox', 'a', '--inbox', 'b'), ['--inbox is given twice']);
  assert.match(problems('receive', '--inbox', '--ack')[0] ?? '', /^--inbox needs a value; one that starts with a dash/);
  assert.deepEqual(problems('orgs', 'show'), ['orgs show needs ID']);
});

test('no problem repeats a key', () => {
  const key = 'slk_live_hidden';
  for (const args of [[key], ['--kye', key], ['--key', key, '--max', '0'], ['--max', '--key', key], [`--kye=${key}`]]) {
    assert.equal(
      problems('receive', ...args)
        .join()
        .includes(key),
      false,
      args.join(' '),
    );
  }
});

test('the help of each command names its flags, its settings, and fits a terminal', () => {
  for (const [name, row] of Object.entries(clientCommands)) {
    const help = commandHelpText(name);
    for (const usage of row.usage) assert.ok(help.includes(`sluice ${usage}`), usage);
    for (const flag of Object.keys(row.flags)) {
      assert.ok(help.includes(`  --${flag}`), flag);
      assert.ok(row.usage.join().includes(`--${flag}`), `${name}: the usage leaves out --${flag}`);
    }
    for (const { variable } of clientSettings) assert.ok(help.includes(variable));
    for (const line of help.split('\n')) assert.ok(line.length <= 100, line);
  }
});
