/** The files of deploy/, as far as they can be checked without an engine that runs containers, and without systemd. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { laterSettings, settings } from '../../src/settings.js';
import { documentPath } from '../support/document.js';

const root = dirname(dirname(documentPath('configuration.md')));
const read = (name: string): string => readFileSync(join(root, 'deploy', name), 'utf8');
const withoutComments = (text: string): string => text.replaceAll(/^\s*#.*$/gm, '');

const [container, compose, unit] = ['Containerfile', 'compose.yaml', 'sluice.service'].map(read) as [
  string,
  string,
  string,
];

test('every setting in them is one of the program', () => {
  const known: readonly string[] = [...Object.values(settings), ...laterSettings].map(({ variable }) => variable);
  for (const text of [container, compose, unit]) {
    const named = Array.from(text.matchAll(/\b(?:SLUICE_[A-Z_]+|DATABASE_URL)\b/g), ([name]) => name);
    assert.ok(named.length > 0);
    assert.deepEqual(
      named.filter((name) => !known.includes(name)),
      [],
    );
  }
});

/** Each instruction of a container file, its continued lines joined. */
const instructions = withoutComments(container)
  .replaceAll(/\\\n\s*/g, '')
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => ({ word: line.split(' ', 1)[0] ?? '', rest: line.slice(line.indexOf(' ') + 1) }));

test('the container is built in stages, from plain and pinned names, and runs as a user without rights', () => {
  const stages = instructions.filter(({ word }) => word === 'FROM');
  assert.equal(stages.length, 2);
  for (const { rest } of stages) assert.match(rest, /^[a-z]+:\d[\w.-]*(?: AS [a-z]+)?$/, 'no registry, no latest');
  const last = instructions.slice(instructions.findLastIndex(({ word }) => word === 'FROM'));
  const user = last.filter(({ word }) => word === 'USER').at(-1)?.rest;
  assert.ok(user !== undefined && !/^(?:root|0)\b/.test(user));
  for (const word of ['HEALTHCHECK', 'ENTRYPOINT', 'STOPSIGNAL'])
    assert.ok(
      last.some((each) => each.word === word),
      word,
    );
  assert.equal(
    last.some(({ word }) => word === 'RUN' || word === 'ADD') && last.some(({ rest }) => /npm/.test(rest)),
    false,
  );
});

test('what the container copies is there, and what its build runs as well', () => {
  const fromHere = instructions.filter(({ word, rest }) => word === 'COPY' && !rest.startsWith('--from'));
  assert.ok(fromHere.length > 3);
  for (const { rest } of fromHere) {
    for (const source of rest.split(' ').slice(0, -1)) assert.ok(existsSync(join(root, source)), source);
  }
  const { scripts, bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
    bin: Record<string, string>;
  };
  const run = instructions.filter(({ word }) => word === 'RUN').map(({ rest }) => rest);
  for (const [, script = ''] of run.join('\n').matchAll(/npm run ([\w:]+)/g)) assert.ok(script in scripts, script);
  for (const text of [container, unit])
    assert.ok(text.includes(`/${bin['sluice'] ?? 'none'}`), 'it starts the program of package.json');
});

test('the health check of the container asks a route of the program', () => {
  const check = /"fetch\((.*?)\)/.exec(container)?.[1];
  assert.match(check ?? '', /\/healthz`$/);
});

test('the compose file is indented as YAML wants it, and each reference in it leads somewhere', () => {
  assert.equal(compose.includes('\t'), false);
  let depth = 0;
  for (const [i, line] of withoutComments(compose).split('\n').entries()) {
    if (line.trim() === '') continue;
    const indent = line.length - line.trimStart().length;
    assert.equal(indent % 2, 0, `line ${i + 1}`);
    assert.ok(indent <= depth + 2, `line ${i + 1} is too deep`);
    assert.match(line, /^ *(?:- )?(?:[\w<.-]+:(?: .+)?|'[^']*'|[\w:./-]+)$/, `line ${i + 1}`);
    depth = indent;
  }
  const anchors = Array.from(compose.matchAll(/: &([\w-]+)$/gm), ([, name]) => name);
  for (const [, alias] of compose.matchAll(/: \*([\w-]+)$/gm)) assert.ok(anchors.includes(alias), alias);
  const services = Array.from(
    compose.slice(compose.indexOf('\nservices:')).matchAll(/^ {2}([\w-]+):$/gm),
    ([, name]) => name,
  );
  assert.deepEqual(services, ['postgres', 'migrate', 'node-1', 'node-2', 'postgres']);
  for (const [, image = ''] of compose.matchAll(/image: (.+)$/gm))
    assert.match(image, /^(?:sluice|[a-z]+:\d+)$/, 'no registry');
  assert.ok(existsSync(join(root, /dockerfile: (.+)$/m.exec(compose)?.[1] ?? 'none')));
  for (const [, secret = ''] of compose.matchAll(/\$\{(\w+)(?!\w|:\?)/g)) assert.fail(`${secret} may be empty`);
});

test('the unit is in three sections, holds the program back, and gives a stop the time that the program takes', () => {
  assert.deepEqual(
    Array.from(unit.matchAll(/^\[(\w+)\]$/gm), ([, name]) => name),
    ['Unit', 'Service', 'Install'],
  );
  for (const line of withoutComments(unit).split('\n')) assert.match(line, /^(?:\[\w+\]|[A-Z]\w+=.*|)$/, line);
  const value = (name: string): string | undefined => new RegExp(`^${name}=(.*)$`, 'm').exec(unit)?.[1];
  assert.ok(Number(value('TimeoutStopSec')) > Number(settings.shutdownSeconds.default) + 5);
  assert.equal(value('DynamicUser'), 'yes');
  assert.equal(value('NoNewPrivileges'), 'yes');
  assert.equal(value('ProtectSystem'), 'strict');
  assert.equal(value('CapabilityBoundingSet'), '');
  assert.equal(value('MemoryDenyWriteExecute'), undefined, 'the JavaScript engine would not start');
  assert.equal(value('ProtectProc'), undefined, 'the lock of a data folder would take its owner for dead');
});
