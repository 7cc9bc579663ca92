/**
 * Old and new version of the program run side by side on one schema (CONTRIBUTING.md, "Changing the schema"). This holds each migration to that, as far
 * as its text shows it. Each rule is a function from a migration to its violations, and is itself tried on migrations that break it.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readMigrations } from '../../src/db/migrate.js';
import type { Migration } from '../../src/db/migrate.js';
import { isContract, locksOf, statementsOf, stepOf, tablesMade } from '../../src/db/migration-text.js';

/** Older ones are history: they were released before these rules, and ran where there was nothing to lock. */
const historyVersion = 6;

interface Rule {
  readonly promise: string;
  readonly check: (migration: Migration) => string[];
  /** Texts that break the rule, one violation each; as `[name, text]` where the name matters. */
  readonly broken: readonly (string | readonly [string, string])[];
  readonly sound: readonly (string | readonly [string, string])[];
}

/** The statements of a text on tables that were there before it, those of its DO blocks as well, with nothing in their strings. */
function statementsOnOld(text: string): string[] {
  const made = tablesMade(text);
  const all = statementsOf(text).flatMap((statement) => {
    const body = /^DO\s+\$(\w*)\$([^]*)\$\1\$/i.exec(statement)?.[2];
    return body === undefined ? [statement] : statementsOf(body.replace(/^\s*(?:DECLARE[^]*?)?BEGIN/i, ''));
  });
  const plain = all.map((statement) => statement.replaceAll(/'(?:[^']|'')*'/g, `''`));
  return plain.filter((statement) => {
    const table = /^(?:ALTER|DROP)\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?(\w+)/i.exec(statement)?.[1];
    const indexed = /^CREATE\s+(?:UNIQUE\s+)?INDEX\s+(?:\w+\s+)*?ON\s+(?:ONLY\s+)?(\w+)/i.exec(statement)?.[1];
    const changed = /^(?:UPDATE|DELETE\s+FROM)\s+(?:ONLY\s+)?(\w+)/i.exec(statement)?.[1];
    const named = table ?? indexed ?? changed;
    return named === undefined || !made.has(named);
  });
}

/** The statements of every table that was there before, in which `pattern` is found. */
function never(pattern: RegExp, unlessContract = false): Rule['check'] {
  return ({ name, text }) =>
    unlessContract && isContract(name) ? [] : statementsOnOld(text).filter((statement) => pattern.test(statement));
}

/** The parts of an ALTER TABLE, which commas outside of parentheses divide. */
function actionsOf(statement: string): string[] {
  const rest = /^ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?\w+\s+([^]*)$/i.exec(statement)?.[1] ?? '';
  const actions = [''];
  let depth = 0;
  for (const char of rest) {
    if (char === '(') depth++;
    if (char === ')') depth--;
    if (char === ',' && depth === 0) actions.push('');
    else actions.push((actions.pop() ?? '') + char);
  }
  return actions.map((action) => action.trim()).filter((action) => action !== '');
}

/** The ALTER TABLE actions on tables that were there before, for which `isWrong` holds. */
function neverAction(isWrong: (action: string) => boolean): Rule['check'] {
  return ({ text }) =>
    statementsOnOld(text)
      .flatMap((statement) => actionsOf(statement))
      .filter(isWrong);
}

const addsColumn = /^ADD\s+(?:COLUMN\s+)?(?!CONSTRAINT|CHECK|UNIQUE|PRIMARY|FOREIGN|EXCLUDE)/i;

const rules: readonly Rule[] = [
  {
    promise: 'nothing that an older program uses is taken away, but by a contract step',
    check: never(
      /^DROP\s+(?:TABLE|VIEW|FUNCTION|TYPE|SCHEMA)|^REVOKE|\bDROP\s+(?:COLUMN\s|(?:IF\s+EXISTS\s+)?(?!CONSTRAINT|NOT|DEFAULT|TRIGGER|POLICY|INDEX|EXPRESSION|IDENTITY)\w+\s*$)/i,
      true,
    ),
    broken: [
      'ALTER TABLE orgs DROP COLUMN name',
      'ALTER TABLE orgs DROP name',
      'DROP TABLE leases',
      'REVOKE SELECT ON orgs FROM sluice_app',
      'DO $$ BEGIN ALTER TABLE orgs DROP COLUMN name; END $$',
    ],
    sound: [
      ['0007_contract_names', 'ALTER TABLE orgs DROP COLUMN name'],
      'ALTER TABLE orgs ALTER COLUMN name DROP NOT NULL',
      "COMMENT ON TABLE orgs IS 'DROP COLUMN is not for here; DROP TABLE neither'",
      'CREATE TABLE draft (a int); DROP TABLE draft',
    ],
  },
  {
    promise: 'nothing is renamed: for one of two versions that is the same as taking it away',
    check: never(/^ALTER\s+\w+[^]*\bRENAME\b/i),
    broken: ['ALTER TABLE orgs RENAME COLUMN name TO title', ['0007_contract_x', 'ALTER TABLE orgs RENAME TO tenants']],
    sound: ['ALTER TABLE orgs ADD COLUMN renamed text'],
  },
  {
    promise: 'a new column is null or has a default, since older programs insert without it',
    check: neverAction(
      (action) => addsColumn.test(action) && /\bNOT\s+NULL\b/i.test(action) && !/\bDEFAULT\b/i.test(action),
    ),
    broken: ['ALTER TABLE orgs ADD COLUMN label text NOT NULL', 'ALTER TABLE orgs ADD a int NULL, ADD b int NOT NULL'],
    sound: [
      'ALTER TABLE orgs ADD COLUMN label text',
      `ALTER TABLE orgs ADD COLUMN label text NOT NULL DEFAULT 'a, b'`,
      'CREATE TABLE other (org bigint NOT NULL); ALTER TABLE other ADD COLUMN b int NOT NULL',
    ],
  },
  {
    promise: 'no table is written anew: no other type, no default that differs by row, no stored expression',
    check: neverAction(
      (action) =>
        /^ALTER\s+(?:COLUMN\s+)?\w+\s+(?:SET\s+DATA\s+)?TYPE\b|^SET\s+(?:TABLESPACE|LOGGED|UNLOGGED|ACCESS)/i.test(
          action,
        ) ||
        (addsColumn.test(action) &&
          /\b(?:GENERATED|(?:big|small)?serial)\b|DEFAULT\s+\(?\s*(?:gen_random_uuid|uuid|random|clock_timestamp|timeofday|nextval)/i.test(
            action,
          )),
    ),
    broken: [
      'ALTER TABLE heads ALTER COLUMN epoch TYPE bigint',
      'ALTER TABLE heads ADD COLUMN id uuid DEFAULT gen_random_uuid()',
      'ALTER TABLE heads ADD COLUMN n bigserial',
      'ALTER TABLE heads ADD COLUMN two integer GENERATED ALWAYS AS (epoch * 2) STORED',
    ],
    sound: ['ALTER TABLE heads ADD COLUMN seen_at timestamptz NOT NULL DEFAULT now()'],
  },
  {
    promise: 'no constraint reads a whole table under a lock: NOT VALID first, VALIDATE in a migration of its own',
    check: neverAction(
      (action) =>
        (/^ADD\s+(?:CONSTRAINT\s+\w+\s+)?(?:CHECK|FOREIGN)\b/i.test(action) && !/\bNOT\s+VALID\b/i.test(action)) ||
        (/^ADD\s+(?:CONSTRAINT\s+\w+\s+)?(?:UNIQUE|PRIMARY|EXCLUDE)\b/i.test(action) &&
          !/\bUSING\s+INDEX\b/i.test(action)) ||
        (addsColumn.test(action) && /\b(?:CHECK|REFERENCES|UNIQUE|PRIMARY)\b/i.test(action)) ||
        /^ALTER\s+(?:COLUMN\s+)?\w+\s+SET\s+NOT\s+NULL/i.test(action),
    ),
    broken: [
      `ALTER TABLE orgs ADD CONSTRAINT short CHECK (length(name) < 100)`,
      'ALTER TABLE orgs ADD UNIQUE (name)',
      'ALTER TABLE orgs ADD COLUMN size bigint NOT NULL DEFAULT 0 CHECK (size >= 0)',
      'ALTER TABLE orgs ALTER COLUMN name SET NOT NULL',
    ],
    sound: [
      'ALTER TABLE orgs ADD CONSTRAINT short CHECK (length(name) < 100) NOT VALID',
      'ALTER TABLE orgs VALIDATE CONSTRAINT short',
      'ALTER TABLE orgs ADD CONSTRAINT one UNIQUE USING INDEX orgs_name',
      'CREATE TABLE other (org bigint PRIMARY KEY CHECK (org > 0))',
    ],
  },
  {
    promise: 'an index of a table that is in use is built concurrently',
    check: never(/^CREATE\s+(?:UNIQUE\s+)?INDEX\s+(?!CONCURRENTLY)|^REINDEX\s+(?![^]*CONCURRENTLY)/i),
    broken: ['CREATE INDEX ON orgs (name)', 'CREATE UNIQUE INDEX orgs_name ON orgs (name)', 'REINDEX TABLE orgs'],
    sound: [
      '-- sluice: indexes\nCREATE INDEX CONCURRENTLY orgs_name ON orgs (name)',
      'CREATE TABLE other (a int); CREATE INDEX ON other (a)',
    ],
  },
  {
    promise: 'the log itself gets no index this way: PostgreSQL builds none concurrently on a partitioned table',
    check: ({ text }) =>
      statementsOf(text).filter((each) => /^CREATE[^]*\bINDEX\b[^]*\bON\s+(?:ONLY\s+)?events\b/i.test(each)),
    broken: ['-- sluice: indexes\nCREATE INDEX CONCURRENTLY events_type ON events (org, type)'],
    sound: ['-- sluice: indexes\nCREATE INDEX CONCURRENTLY orgs_name ON orgs (name)'],
  },
  {
    promise: 'rows that are there are changed by a backfill, in chunks',
    check: (migration) =>
      stepOf(migration).kind === 'backfill'
        ? []
        : statementsOnOld(migration.text).filter((each) =>
            /^(?:UPDATE|DELETE)\b|^INSERT\b[^]*\bSELECT\b[^]*\bFROM\b|^WITH\b/i.test(each),
          ),
    broken: [`UPDATE orgs SET tier = 'free'`, 'DELETE FROM leases', 'INSERT INTO audit_heads SELECT org FROM orgs'],
    sound: [
      '-- sluice: backfill\nUPDATE orgs SET name = $1',
      `INSERT INTO server_secrets VALUES ('a', 'b')`,
      'CREATE TABLE other (a int); GRANT UPDATE ON other TO sluice_app',
    ],
  },
  {
    promise: 'nothing stops a whole table: no LOCK, TRUNCATE, CLUSTER, VACUUM, and no limit of its own',
    check: never(/^(?:LOCK|TRUNCATE|CLUSTER|VACUUM|REFRESH)\b|\b(?:lock|statement)_timeout\b/i),
    broken: ['LOCK TABLE orgs', 'TRUNCATE leases', 'VACUUM FULL orgs', `SET LOCAL lock_timeout = '1h'`],
    sound: ['GRANT UPDATE ON orgs TO sluice_app'],
  },
  {
    promise: 'one migration locks one table that is in use, so that it holds no lock while it waits for the next',
    check: ({ text }) => {
      const strong = locksOf(text).filter(({ mode }) => mode !== 'ROW EXCLUSIVE');
      const tables = [...new Set(strong.map(({ table }) => table))];
      return tables.slice(1);
    },
    broken: ['ALTER TABLE orgs ADD COLUMN a int; ALTER TABLE heads ADD COLUMN a int'],
    sound: ['ALTER TABLE orgs ADD COLUMN a int; ALTER TABLE orgs ADD COLUMN b int; CREATE TABLE c (d int)'],
  },
  {
    promise: 'its first line, and what that asks for, is understood',
    check: (migration) => {
      try {
        stepOf(migration);
        return [];
      } catch (error) {
        return [String(error)];
      }
    },
    broken: ['-- sluice: concurrently\nSELECT 1', '-- sluice: indexes\nDROP TABLE orgs'],
    sound: ['-- Sluice has orgs.\nALTER TABLE orgs ADD COLUMN a int'],
  },
];

const migrations = readMigrations();
const planted = (given: string | readonly [string, string]): Migration => {
  const [name, text] = typeof given === 'string' ? ['0007_planted', given] : given;
  return { version: 7, name, text };
};

for (const { promise, check, broken, sound } of rules) {
  describe(promise, () => {
    test('in the migrations', () => {
      const recent = migrations.filter(({ version }) => version > historyVersion);
      assert.deepEqual(
        recent.flatMap((migration) => check(migration).map((each) => `${migration.name}: ${each}`)),
        [],
      );
    });
    test('and a migration that breaks it is found', () => {
      for (const given of broken) assert.equal(check(planted(given)).length, 1, `not found: ${String(given)}`);
      for (const given of sound) assert.deepEqual(check(planted(given)), [], String(given));
    });
  });
}

test('migrations are numbered without a gap, and no number is there twice', () => {
  assert.deepEqual(
    migrations.map(({ version }) => version),
    migrations.map((_, i) => i + 1),
  );
});

test('a text is split where its statements end, and not in what is quoted', () => {
  const text = `-- a; b\nSELECT 'x;''y' /* ; */, ";", $$ ; $$, $f$ $$;$$ $f$; SELECT 2;`;
  assert.deepEqual(statementsOf(text), [`SELECT 'x;''y'  , ";", $$ ; $$, $f$ $$;$$ $f$`, 'SELECT 2']);
});
