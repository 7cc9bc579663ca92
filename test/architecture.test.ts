/**
 * The house rules that a machine can check, over the sources of `src/`. Every rule is a function from sources to violations, and is itself
 * tried on a source that breaks it.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

interface Source {
  /** Below `src/`, such as `db/sql/keys.ts`. */
  readonly path: string;
  readonly text: string;
}

interface Rule {
  readonly promise: string;
  /** One line for each violation, which starts with the path. */
  readonly check: (sources: readonly Source[]) => string[];
  /** Sources that break the rule, one violation each. */
  readonly broken: readonly Source[];
  /** Sources that look like a violation and are none. */
  readonly sound: readonly Source[];
}

/** The rooms from the way in to the storage: a room imports those of later lines, and no room of its own line. */
const order: readonly (readonly string[])[] = [
  // Export and import stand beside the way of an event: they copy rows from database to database.
  ['http', 'transfer'],
  ['admission', 'ingest', 'inbox'],
  // Orgs, keys, scopes and tiers are nouns that admission reads.
  ['tenancy'],
  ['subscriptions'],
  ['event-log'],
  ['db'],
];
/** The composition root and the process, which see everything and are seen by nobody but each other. */
const outside = new Set(['app.ts', 'compose.ts', 'main.ts']);
const linesMax = 400;
/** A literal that begins as a statement does. COPY and the like also begin a sentence, so there the next words count. */
const sqlText = new RegExp(
  '[`\'"]\\s*(?:' +
    [
      '(?:SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|CREATE|ALTER|DROP|SET LOCAL|LOCK TABLE|NOTIFY|LISTEN|GRANT|TRUNCATE)\\s',
      '(?:BEGIN|COMMIT|ROLLBACK|CHECKPOINT|VACUUM)[`\'";]',
      'COPY\\s+\\S+\\s+(?:\\(|FROM|TO)',
    ].join('|') +
    ')',
);

const rules: readonly Rule[] = [
  {
    promise:
      'imports go one way: app, http, {admission, ingest, inbox}, tenancy, subscriptions, event-log, db, then leaves',
    check: (sources) =>
      sources.flatMap(({ path, text }) =>
        importsOf(path, text)
          .filter((target) => !mayImport(path, target))
          .map((target) => `${path} imports ${target}`),
      ),
    broken: [
      { path: 'db/postgres.ts', text: "import { append } from '../event-log/append.js';" },
      { path: 'inbox/receive.ts', text: "import type { Batch } from '../ingest/batch.js';" },
      { path: 'http/server.ts', text: "const app = await import('../app.js');" },
      { path: 'tenancy/keys.ts', text: "export { x } from '../cli/start.js';" },
      { path: 'errors.ts', text: "import {\n  a,\n  b,\n} from './db/database.js';" },
      { path: 'clock.ts', text: "import './app.js';" },
      { path: 'client/index.ts', text: "import { Problem } from '../errors.js';" },
      { path: 'somewhere/new.ts', text: "import { Problem } from '../errors.js';" },
      { path: 'db/embedded.ts', text: "import { x } from '../somewhere/new.js';" },
    ],
    sound: [
      { path: 'app.ts', text: "import { a } from './http/server.js';\nimport { b } from './db/postgres.js';" },
      {
        path: 'cli/start.ts',
        text: "import type { RunningServer } from '../app.js';\nimport { a } from './banner.js';",
      },
      {
        path: 'admission/authenticate.ts',
        text: "import { scopes } from '../tenancy/scopes.js';\nimport pg from 'pg';",
      },
      { path: 'db/embedded.ts', text: "// import { a } from '../http/server.js';\nimport { b } from './sql/keys.js';" },
      { path: 'client/index.ts', text: "import { a } from './retry.js';" },
    ],
  },
  {
    promise: 'only config.ts reads the environment',
    check: forbid(
      /\bprocess\s*\.\s*env\b|\bprocess\s*\[\s*['"]env|\{[^}]*\benv\b[^}]*\}\s*=\s*process\b|\benv\b[^;]*from 'node:process'/,
      ['config.ts'],
    ),
    broken: [
      { path: 'db/postgres.ts', text: 'const url = process.env.DATABASE_URL;' },
      { path: 'app.ts', text: "const url = process['env'].DATABASE_URL;" },
      { path: 'log.ts', text: 'const { env } = process;' },
      { path: 'ids.ts', text: "import { env } from 'node:process';" },
    ],
    sound: [{ path: 'config.ts', text: 'read(process.env)' }],
  },
  {
    promise: 'SQL is only in db/',
    check: forbid(sqlText, ['db/']),
    broken: [
      { path: 'inbox/receive.ts', text: "query('SELECT 1')" },
      { path: 'tenancy/orgs.ts', text: 'const text = `\n  INSERT INTO orgs VALUES ($1)`;' },
      { path: 'app.ts', text: "query('COMMIT')" },
      { path: 'ingest/batch.ts', text: 'const text = `COPY events (org) FROM STDIN`;' },
    ],
    sound: [
      { path: 'db/sql/keys.ts', text: 'const text = `SELECT 1`;' },
      { path: 'ingest/batch.ts', text: 'throw new Error(`COPY stored ${n} rows`);' },
      { path: 'http/routes.ts', text: "// 'SELECT 1' would be wrong here\nconst hint = 'Select one of them';" },
    ],
  },
  {
    promise: 'only clock.ts, and that of the client, tells the time and arms timers',
    check: forbid(/\bDate\.now\b|\bnew Date\(\s*\)|\bperformance\.now\b|\bset(Timeout|Interval)\b|node:timers/, [
      'clock.ts',
      // The client imports nothing of the rest, so it has a clock of its own.
      'client/clock.ts',
    ]),
    broken: [
      { path: 'admission/token-bucket.ts', text: 'const now = Date.now();' },
      { path: 'tenancy/keys.ts', text: 'const now = new Date();' },
      { path: 'ingest/group-commit.ts', text: 'setTimeout(flush, 5);' },
      { path: 'db/embedded.ts', text: "import { setInterval } from 'node:timers/promises';" },
      { path: 'telemetry.ts', text: 'const start = performance.now();' },
    ],
    sound: [
      { path: 'clock.ts', text: 'setTimeout(fire, delayMs)' },
      { path: 'time-format.ts', text: 'new Date(ms).toISOString()' },
    ],
  },
  {
    promise: 'nothing writes to the console',
    check: forbid(/\bconsole\s*[.[]/, []),
    broken: [{ path: 'http/server.ts', text: "console.log('here')" }],
    sound: [{ path: 'http/server.ts', text: '// console.log would bypass the log\nconst consoleUrl = 1;' }],
  },
  {
    promise: `no file is longer than ${linesMax} lines`,
    check: (sources) =>
      sources
        .filter(({ text }) => lineCount(text) > linesMax)
        .map(({ path, text }) => `${path} has ${lineCount(text)} lines`),
    broken: [{ path: 'ids.ts', text: 'x\n'.repeat(linesMax + 1) }],
    sound: [{ path: 'ids.ts', text: 'x\n'.repeat(linesMax) }],
  },
];

const root = fileURLToPath(new URL('../../src/', import.meta.url));
const sources: readonly Source[] = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map((path) => ({ path: path.replaceAll('\\', '/'), text: readFileSync(join(root, path), 'utf8') }));

for (const { promise, check, broken, sound } of rules) {
  describe(promise, () => {
    test('in the sources', () => assert.deepEqual(check(sources), []));
    test('and a source that breaks it is found', () => {
      for (const source of broken)
        assert.equal(check([source]).length, 1, `${source.path}: ${source.text.slice(0, 80)}`);
      assert.deepEqual(check(sound), []);
    });
  });
}

test('the sources that are checked are the sources there are', () => {
  const paths = sources.map((source) => source.path);
  for (const path of ['config.ts', 'main.ts', 'db/database.ts', 'cli/start.ts']) assert.ok(paths.includes(path), path);
});

/** A rule that no source outside `exempt` (files, or folders ending in a slash) has `pattern` in its code. */
function forbid(pattern: RegExp, exempt: readonly string[]): Rule['check'] {
  return (all) =>
    all
      .filter(({ path }) => !exempt.some((place) => (place.endsWith('/') ? path.startsWith(place) : path === place)))
      .flatMap(({ path, text }) => {
        const found = pattern.exec(withoutComments(text))?.[0];
        return found === undefined ? [] : [`${path} has ${found.trim()}`];
      });
}

/** What a source imports of `src/`, as paths below it. Type imports count: they, too, say who knows whom. */
function importsOf(path: string, text: string): string[] {
  const specifiers = withoutComments(text).matchAll(/(?:\bfrom|\bimport|\bimport\()\s*['"](\.{1,2}\/[^'"]+)['"]/g);
  return [...specifiers].map(([, specifier]) => {
    const url = new URL(specifier ?? '', `file:///src/${path}`);
    return url.pathname.replace(/^\/src\//, '').replace(/\.js$/, '.ts');
  });
}

function mayImport(from: string, to: string): boolean {
  const [fromRoom, toRoom] = [roomOf(from), roomOf(to)];
  if (fromRoom === toRoom && fromRoom !== undefined) return true;
  if (fromRoom === 'client') return false;
  if (outside.has(from) || fromRoom === 'cli') return true;
  if (outside.has(to)) return false;
  if (fromRoom === undefined) return toRoom === undefined;
  if (rankOf(fromRoom) === -1) return false;
  return toRoom === undefined || rankOf(toRoom) > rankOf(fromRoom);
}

/** The folder right below `src/`; undefined for a leaf, which is a file there. */
function roomOf(path: string): string | undefined {
  return path.includes('/') ? path.slice(0, path.indexOf('/')) : undefined;
}

function rankOf(room: string): number {
  return order.findIndex((line) => line.includes(room));
}

function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[^]*?\*\/|(?<=^|\s)\/\/.*$/gm, '');
}

function lineCount(text: string): number {
  return text.split('\n').length - (text.endsWith('\n') ? 1 : 0);
}
