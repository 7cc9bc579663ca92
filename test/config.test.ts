import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { helpText } from '../src/cli/help.js';
import { readInvocation, UsageError } from '../src/config.js';
import type { Config, Environment } from '../src/config.js';
import { flagOf, laterSettings, settings } from '../src/settings.js';

const token = 'a-token-of-more-than-16';
const cwd = tmpdir();

/** For every setting: a text that is not its default, the value it means, and texts that cannot be. */
const examples: { readonly [Name in keyof Config]: { text: string; value: Config[Name]; bad: readonly string[] } } = {
  host: { text: '::1', value: '::1', bad: ['http://a', '127.0.0.1:80', '[::1]', 'a b', '-a', 'a..b'] },
  port: { text: '0', value: 0, bad: ['99999', '65536', '80a', '0x10', '8.5', '1e3', ' 80'] },
  dataDir: { text: 'elsewhere', value: join(cwd, 'elsewhere'), bad: [] },
  databaseUrl: {
    text: 'postgres://u:p@a:1/c',
    value: 'postgres://u:p@a:1/c',
    bad: ['mysql://u@h/d', 'h:5432', 'http://h/d'],
  },
  listenUrl: { text: 'postgres://u:p@a:1/c', value: 'postgres://u:p@a:1/c', bad: ['mysql://u@h/d', 'h:5432'] },
  adminToken: {
    text: token,
    value: token,
    bad: ['fifteen-letters', 'x'.repeat(257), 'with spaces in between', 'nicht-ganz-äscii-x'],
  },
  logLevel: { text: 'silent', value: 'silent', bad: ['INFO', 'loud', 'verbose'] },
  metricsPort: { text: '9090', value: 9090, bad: ['0', '65536', 'any'] },
  shutdownSeconds: { text: '30', value: 30, bad: ['0', '3601', '10s'] },
  connectionsMax: { text: '500', value: 500, bad: ['9', '1000001', 'many'] },
  migrate: { text: 'off', value: 'off', bad: ['on', 'AUTO', 'never'] },
  workers: { text: '4', value: 4, bad: ['0', '257', 'auto'] },
  role: { text: 'api', value: 'api', bad: ['ALL', 'api,worker', 'none'] },
  dbPool: { text: '20', value: 20, bad: ['0', '1001', 'many'] },
  ingestLanes: { text: '4', value: 4, bad: ['0', '17', 'all'] },
  queueBytesMax: { text: '1048576', value: 1_048_576, bad: ['1048575', '64MiB', '99999999999'] },
  queueAgeMsMax: { text: '250', value: 250, bad: ['0', '600001', '5s'] },
};

const rows = Object.entries(settings).map(([name, row]) => {
  const example = Object.entries(examples).find(([exampleName]) => exampleName === name)?.[1];
  assert.ok(example !== undefined, `no example for ${name}`);
  return { name, row, example, flag: `--${flagOf(row.variable)}` };
});

function start(args: readonly string[], environment: Environment = {}): { config: Config; notices: readonly string[] } {
  const invocation = readInvocation(args, environment, cwd);
  assert.equal(invocation.kind, 'start');
  return invocation;
}

function problems(args: readonly string[], environment: Environment = {}): readonly string[] {
  let refusal: unknown;
  try {
    readInvocation(args, environment, cwd);
  } catch (error) {
    refusal = error;
  }
  assert.ok(refusal instanceof UsageError, 'nothing was refused');
  return refusal.problems;
}

function valueOf(config: Config, name: string): unknown {
  return Object.entries(config).find(([key]) => key === name)?.[1];
}

test('without flags and variables every setting has the default that the interface promises', () => {
  assert.deepEqual(start([]).config, {
    host: '127.0.0.1',
    port: 8080,
    dataDir: join(cwd, 'data'),
    databaseUrl: null,
    listenUrl: null,
    adminToken: null,
    logLevel: 'info',
    metricsPort: null,
    shutdownSeconds: 10,
    connectionsMax: 10_000,
    migrate: 'auto',
    workers: 1,
    role: 'all',
    dbPool: 10,
    ingestLanes: 2,
    queueBytesMax: 64 * 1024 * 1024,
    queueAgeMsMax: 5000,
  });
});

for (const { name, row, example, flag } of rows) {
  // A database of one's own needs a token besides, and several processes, or some with half of the work, need such a database; the others are
  // valid alone.
  const server: Environment = { DATABASE_URL: 'postgres://h/d', SLUICE_ADMIN_TOKEN: token };
  const besides: Environment = ['databaseUrl', 'workers', 'role'].includes(name) ? server : {};

  test(`${row.variable} can be set by variable and by ${flag}, and the flag wins`, () => {
    const byVariable = start([], { ...besides, [row.variable]: example.text });
    assert.deepEqual(valueOf(byVariable.config, name), example.value);
    assert.deepEqual(byVariable.notices, []);
    for (const args of [[flag, example.text], [`${flag}=${example.text}`], ['start', flag, example.text]]) {
      const byFlag = start(args, { ...besides, [row.variable]: 'impossible value' });
      assert.deepEqual(valueOf(byFlag.config, name), example.value);
    }
  });

  test(`an empty ${row.variable} counts as absent`, () => {
    assert.deepEqual(start([], { [row.variable]: '' }).config, start([]).config);
  });

  for (const bad of example.bad) {
    test(`${row.variable} is refused as ${JSON.stringify(bad)}, under the name it was given by`, () => {
      for (const [label, found] of [
        [row.variable, problems([], { ...besides, [row.variable]: bad })],
        [flag, problems([`${flag}=${bad}`], besides)],
      ] as const) {
        const [problem = '', ...others] = found;
        assert.deepEqual(others, []);
        assert.ok(problem.startsWith(`${label}: `), problem);
        assert.match(problem, /; use /);
        assert.equal(problem.includes(bad), !('secret' in row), 'a secret is not repeated, anything else is');
      }
    });
  }
}

test('a refusal says what would be right', () => {
  assert.deepEqual(problems([], { SLUICE_PORT: '99999' }), [
    'SLUICE_PORT: 99999 is not a port; use a whole number from 0 to 65535',
  ]);
});

test('all problems are told at once, those of flags and those of variables', () => {
  const found = problems(['--port', 'x', '--unknown'], { SLUICE_LOG_LEVEL: 'x', SLUICE_WORKERS: '0' });
  assert.deepEqual(
    found.map((problem) => problem.split(':', 1)[0]),
    ['--unknown', '--port', 'SLUICE_LOG_LEVEL', 'SLUICE_WORKERS'],
  );
});

test('an unknown flag is refused with the nearest known one, and its value is not refused besides', () => {
  assert.deepEqual(problems(['--prot', '80']), ['--prot: no such flag; did you mean --port?']);
  assert.deepEqual(problems(['--datadir=x']), ['--datadir: no such flag; did you mean --data-dir?']);
  assert.deepEqual(problems(['--frobnicate']), ['--frobnicate: no such flag; --help lists them all']);
  assert.deepEqual(problems(['-p']), ['-p: no such flag; --help lists them all']);
});

test('an unknown SLUICE_ variable is warned of with the nearest known one; other variables are not looked at', () => {
  assert.deepEqual(start([], { SLUICE_PROT: '1', SLUICE_XYZZYXYZZY: '1', SLUCE_PORT: '1' }).notices, [
    'SLUICE_PROT is not a setting and has no effect; did you mean SLUICE_PORT?',
    'SLUICE_XYZZYXYZZY is not a setting and has no effect',
  ]);
});

test('a flag without its value is refused, also when another flag follows', () => {
  assert.deepEqual(problems(['--port']), ['--port needs a value']);
  assert.deepEqual(problems(['--port=']), ['--port needs a value']);
  assert.match(problems(['--data-dir', '--port', '80'])[0] ?? '', /^--data-dir needs a value/);
  assert.equal(problems(['--data-dir', '--port', '80']).length, 1);
});

test('an argument that is no flag is refused, and repeated only if it cannot be a secret', () => {
  assert.match(problems(['stop'])[0] ?? '', /^stop: /);
  assert.match(problems(['postgres://u:hidden@h/d'])[0] ?? '', /^argument 1: /);
  assert.match(problems(['start', 'start'])[0] ?? '', /^start: /);
});

test('export and import take a file, standard output and input without one, and the settings besides', () => {
  const read = (...args: string[]) => readInvocation(args, {}, cwd);
  const gzip = { kind: 'export', file: join(cwd, 'b.gz'), gzip: true, resume: false };
  const {
    config,
    notices: _,
    ...exported
  } = { notices: [], ...read('export', 'b.gz', '--data-dir', 'elsewhere') } as Record<string, unknown>;
  assert.deepEqual(exported, gzip);
  assert.deepEqual(config, start(['--data-dir', 'elsewhere']).config);
  assert.deepEqual(read('export', '--resume', 'b'), { ...read('export', 'b'), resume: true });
  assert.deepEqual(read('export', '--gzip', '-'), { ...read('export'), gzip: true });
  assert.deepEqual(read('export', '/a/b'), { ...read('export'), file: '/a/b' });
  assert.deepEqual(read('import', '-'), read('import'));
  assert.deepEqual(read('import', 'b'), {
    kind: 'import',
    config: start([]).config,
    notices: [],
    file: join(cwd, 'b'),
  });
});

test('export and import need no admin token, and refuse what belongs to another command', () => {
  const environment = { DATABASE_URL: 'postgres://u:p@h/d' };
  assert.equal(readInvocation(['export', 'f'], environment, cwd).kind, 'export');
  assert.equal(readInvocation(['import', 'f'], environment, cwd).kind, 'import');
  assert.match(problems(['import', '--gzip', 'f'])[0] ?? '', /^--gzip: no such flag/);
  assert.match(problems(['--resume'])[0] ?? '', /^--resume: no such flag/);
  assert.match(problems(['export', '--gzip=no', 'f'])[0] ?? '', /^--gzip takes no value/);
  assert.match(problems(['export', '--resume'])[0] ?? '', /^--resume: name the file/);
  assert.match(problems(['import', 'one', 'two'])[0] ?? '', /^two: not understood here/);
  assert.match(problems(['--port', '1', 'export'])[0] ?? '', /^export: not understood here/);
});

test('a database of one’s own needs an admin token, the same on every node', () => {
  const url = 'postgres://u:hidden@h/d';
  const expected = /^SLUICE_ADMIN_TOKEN: required with DATABASE_URL; /;
  assert.match(problems([], { DATABASE_URL: url })[0] ?? '', expected);
  assert.equal(problems([], { DATABASE_URL: url }).join().includes('hidden'), false);
});

test('an address of a database that cannot be read is refused with what would be right', () => {
  for (const url of ['postgres://u:hidden@a:1,/c', 'postgres://u:hid#den@h/d', 'postgres://u@h:99999/d']) {
    const [problem = ''] = problems([], { DATABASE_URL: url, SLUICE_ADMIN_TOKEN: token });
    assert.match(problem, /^DATABASE_URL: not an address that can be read; use hosts with ports up to 65535/);
    assert.doesNotMatch(problem, /hid/);
  }
});

test('the metrics port cannot be the main port', () => {
  assert.deepEqual(problems(['--port', '9000'], { SLUICE_METRICS_PORT: '9000' }), [
    'SLUICE_METRICS_PORT: 9000 is the main port; use another one',
  ]);
});

test('lanes of ingest leave a connection for everything else', () => {
  const url = { DATABASE_URL: 'postgres://u@h/d', SLUICE_ADMIN_TOKEN: token, SLUICE_DB_POOL: '2' };
  assert.deepEqual(problems(['--ingest-lanes', '2'], url), [
    '--ingest-lanes: 2 lanes leave no connection for anything else; use less than SLUICE_DB_POOL (2)',
  ]);
  // The default makes do with what there is.
  start([], url);
});

test('a data folder that is a file, or below one, is refused; one that does not exist yet is not', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-config-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'file');
  writeFileSync(file, '');
  for (const dataDir of [file, join(file, 'below', 'it')]) {
    assert.deepEqual(problems(['--data-dir', dataDir]), [
      `--data-dir: ${file} is not a folder; use a folder that this user may write to`,
    ]);
  }
  assert.equal(start(['--data-dir', join(folder, 'not', 'yet')]).config.dataDir, join(folder, 'not', 'yet'));
});

test('names of later versions are known and said to have no effect', () => {
  const notices = start([], { REDIS_URL: 'redis://:hidden@h', SLUICE_WEBHOOK_ALLOW: '10.0.0.0/8' }).notices;
  assert.deepEqual(
    notices.map((notice) => notice.split(' ', 1)[0]),
    ['REDIS_URL', 'SLUICE_WEBHOOK_ALLOW'],
  );
  assert.equal(notices.join().includes('hidden'), false);
});

test('several processes, and one with half of the work, need a database that more than one can open', () => {
  const server = { DATABASE_URL: 'postgres://h/d', SLUICE_ADMIN_TOKEN: 'x'.repeat(16) };
  assert.match(problems(['--workers', '4'])[0] ?? '', /^--workers: .*use 1, .*DATABASE_URL/);
  for (const role of ['api', 'worker']) {
    assert.match(problems([], { SLUICE_ROLE: role })[0] ?? '', /^SLUICE_ROLE: .*use all, .*DATABASE_URL/);
    assert.equal(start(['--role', role], server).config.role, role);
  }
  assert.equal(start(['--workers', '4', '--role', 'api'], server).config.workers, 4);
  assert.match(problems(['--workers', '2', '--role', 'worker'], server)[0] ?? '', /^--workers: .*use 1,/);
  assert.match(
    problems(['--role', 'both'], server)[0] ?? '',
    /^--role: both is not a role; use one of all, api, worker/,
  );
});

test('help and version are answered whatever else is wrong', () => {
  assert.equal(readInvocation(['--prot', '-h'], { SLUICE_PORT: 'x' }, cwd).kind, 'help');
  assert.equal(readInvocation(['--version', '--port', 'x'], {}, cwd).kind, 'version');
});

test('migrate takes its two switches, and nothing else has them', () => {
  const migrate = (...args: string[]): unknown => {
    const { kind, ...rest } = readInvocation(['migrate', ...args], {}, cwd);
    assert.equal(kind, 'migrate');
    assert.ok('dryRun' in rest && 'printRoles' in rest);
    return [rest.dryRun, rest.printRoles];
  };
  assert.deepEqual(migrate(), [false, false]);
  assert.deepEqual(migrate('--dry-run'), [true, false]);
  assert.deepEqual(migrate('--print-roles', '--database-url=postgres://u@h/d'), [false, true]);
  assert.match(problems(['start', '--dry-run']).join(), /--dry-run: no such flag/);
  assert.match(problems(['migrate', '--gzip']).join(), /--gzip: no such flag/);
  assert.match(problems(['migrate', '5']).join(), /it takes flags only/);
});

test('help lists every setting with its flag, its variable, its default and what it means', () => {
  const help = helpText();
  const flat = help.replaceAll(/\s+/g, ' ');
  for (const { row, flag } of rows) {
    const origin = row.default === null ? row.variable : `${row.variable}, default ${row.default}`;
    assert.ok(help.includes(`${flag} <${row.type.placeholder}>  (${origin})`), row.variable);
    assert.ok(flat.includes(row.help), row.variable);
  }
  for (const { variable } of laterSettings) assert.ok(help.includes(`--${flagOf(variable)} `), variable);
  for (const line of help.split('\n')) assert.ok(line.length <= 100, line);
});
