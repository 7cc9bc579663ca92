/** What a migration's file says about itself, and what can be seen in it without running it. */

export interface Migration {
  readonly version: number;
  readonly name: string;
  readonly text: string;
}

/**
 * How a migration is applied. Its first line says so; without a word there it is one transaction.
 * - `-- sluice: indexes`: statements `CREATE INDEX CONCURRENTLY` and `DROP INDEX CONCURRENTLY`, each outside of any transaction.
 * - `-- sluice: backfill` or `-- sluice: backfill as ROLE`: one statement, repeated. `$1` is where the last chunk ended (text, null at first), `$2` how
 *   many rows to take. It returns one row: `after`, where this chunk ended (text, null when nothing was left), and `rows`, how many it changed.
 */
export type Step =
  | { readonly kind: 'transaction' }
  | { readonly kind: 'indexes'; readonly statements: readonly IndexStatement[] }
  | { readonly kind: 'backfill'; readonly role: string | null; readonly statement: string };

export interface IndexStatement {
  readonly action: 'create' | 'drop';
  readonly index: string;
  /** Null for a drop, which names none. */
  readonly table: string | null;
  readonly text: string;
}

const directive = /^--\s*sluice:\s*(\w+)(?:\s+as\s+(\w+))?\s*$/;
const createIndex = /^CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(\w+)\s+ON\s+(\w+)/i;
const dropIndex = /^DROP\s+INDEX\s+CONCURRENTLY\s+IF\s+EXISTS\s+(\w+)$/i;

/** Throws where the first line asks for what there is not, or the text is not what it says. */
export function stepOf({ name, text }: Migration): Step {
  const first = text.split('\n', 1)[0] ?? '';
  if (!/^--\s*sluice:/.test(first)) return { kind: 'transaction' };
  const [, kind, role] = directive.exec(first) ?? [];
  const statements = statementsOf(text);
  if (kind === 'indexes' && role === undefined) {
    return { kind, statements: statements.map((statement) => indexStatement(name, statement)) };
  }
  if (kind === 'backfill' && statements[0] !== undefined && statements.length === 1) {
    return { kind, role: role ?? null, statement: statements[0] };
  }
  throw new Error(`migration ${name}: its first line or what follows it is not understood`);
}

function indexStatement(name: string, text: string): IndexStatement {
  const [, created, table] = createIndex.exec(text) ?? [];
  if (created !== undefined && table !== undefined) return { action: 'create', index: created, table, text };
  const [, dropped] = dropIndex.exec(text) ?? [];
  if (dropped !== undefined) return { action: 'drop', index: dropped, table: null, text };
  throw new Error(
    `migration ${name}: an indexes file holds CREATE INDEX CONCURRENTLY name ON table and DROP INDEX CONCURRENTLY IF EXISTS name only`,
  );
}

/**
 * A contract step takes away what earlier versions of the program need. Its name says so (`0009_contract_…`), and is stored with its version: so an
 * older program that meets a newer schema knows whether it can still work on it.
 */
export function isContract(name: string): boolean {
  return /^\d{4}_contract_/.test(name);
}

const token = /--[^\n]*|\/\*[^]*?\*\/|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$[^]*?\$\1\$|[^]/g;

/** The statements of an SQL text, without comments and surrounding space. */
export function statementsOf(text: string): string[] {
  const statements: string[] = [];
  let statement = '';
  for (const [part] of text.matchAll(token)) {
    if (part === ';') {
      statements.push(statement.trim());
      statement = '';
    } else {
      statement += /^(?:--|\/\*)/.test(part) ? ' ' : part;
    }
  }
  return [...statements, statement.trim()].filter((each) => each !== '');
}

export interface TableLock {
  readonly table: string;
  readonly mode: 'ACCESS EXCLUSIVE' | 'SHARE ROW EXCLUSIVE' | 'SHARE' | 'ROW EXCLUSIVE';
}

const lockingStatements: readonly (readonly [TableLock['mode'], RegExp])[] = [
  ['ACCESS EXCLUSIVE', /^(?:ALTER|DROP)\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?(\w+)/i],
  ['ACCESS EXCLUSIVE', /^TRUNCATE\s+(?:TABLE\s+)?(?:ONLY\s+)?(\w+)/i],
  ['ACCESS EXCLUSIVE', /^(?:CREATE|ALTER|DROP)\s+POLICY\s+(?:IF\s+EXISTS\s+)?\w+\s+ON\s+(\w+)/i],
  ['ACCESS EXCLUSIVE', /^DROP\s+TRIGGER\s+(?:IF\s+EXISTS\s+)?\w+\s+ON\s+(\w+)/i],
  ['SHARE ROW EXCLUSIVE', /^CREATE\s+(?:OR\s+REPLACE\s+)?(?:CONSTRAINT\s+)?TRIGGER\s[^]*?\sON\s+(\w+)/i],
  [
    'SHARE',
    /^CREATE\s+(?:UNIQUE\s+)?INDEX\s+(?!CONCURRENTLY)(?:IF\s+NOT\s+EXISTS\s+)?(?:\w+\s+)?ON\s+(?:ONLY\s+)?(\w+)/i,
  ],
  ['ROW EXCLUSIVE', /^(?:UPDATE|DELETE\s+FROM|INSERT\s+INTO)\s+(?:ONLY\s+)?(\w+)/i],
];

/** The tables that a text makes. */
export function tablesMade(text: string): ReadonlySet<string> {
  const made = /^CREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(\w+)/i;
  return new Set(statementsOf(text).flatMap((statement) => made.exec(statement)?.[1] ?? []));
}

/**
 * The locks that a text takes on tables that were there before it, as far as its statements show them, one line a table and mode. Where PostgreSQL
 * knows a weaker lock for a form of a statement, this still names that of the statement. What a DO block does is not seen.
 */
export function locksOf(text: string): TableLock[] {
  const made = tablesMade(text);
  const locks = new Map<string, TableLock>();
  const add = (table: string | undefined, mode: TableLock['mode']): void => {
    if (table !== undefined && !made.has(table)) locks.set(`${table} ${mode}`, { table, mode });
  };
  for (const statement of statementsOf(text)) {
    for (const [mode, pattern] of lockingStatements) add(pattern.exec(statement)?.[1], mode);
    if (/^(?:CREATE|ALTER)\s+TABLE/i.test(statement)) {
      for (const [, table] of statement.matchAll(/\bREFERENCES\s+(\w+)/gi)) add(table, 'SHARE ROW EXCLUSIVE');
    }
  }
  return [...locks.values()];
}
