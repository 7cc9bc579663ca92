/**
 * The only reader of flags and of the environment, once, at the start. Flags win over variables; an empty variable counts as absent.
 */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { readClientArguments } from './client-arguments.js';
import type { ClientInvocation } from './client-arguments.js';
import { clientCommandGroups, clientSettings } from './client-commands.js';
import { nearest } from './nearest.js';
import { folderProblem, SettingError } from './setting-types.js';
import { flagOf, laterSettings, settings } from './settings.js';
import type { Config, Setting } from './settings.js';

export type { Config } from './settings.js';

export type Invocation =
  /** `topic` is the command that help is asked for; null for all. */
  | { readonly kind: 'help'; readonly topic: string | null }
  | { readonly kind: 'version' }
  /** `notices` are sentences for the person who starts it: what was given and does nothing. */
  | { readonly kind: 'start'; readonly config: Config; readonly notices: readonly string[] }
  | ExportInvocation
  | ImportInvocation
  | ClientInvocation
  | AuditInvocation
  | VerifyInvocation
  | MigrateInvocation
  | RestoredInvocation;

/** `sluice restored`. */
export interface RestoredInvocation {
  readonly kind: 'restored';
  readonly config: Config;
  readonly notices: readonly string[];
}

/** `sluice verify`. */
export interface VerifyInvocation {
  readonly kind: 'verify';
  readonly config: Config;
  readonly notices: readonly string[];
}

/** `sluice migrate [--dry-run | --print-roles]`. */
export interface MigrateInvocation {
  readonly kind: 'migrate';
  readonly config: Config;
  readonly notices: readonly string[];
  readonly dryRun: boolean;
  readonly printRoles: boolean;
}

/** `sluice audit verify`. */
export interface AuditInvocation {
  readonly kind: 'audit';
  readonly config: Config;
  readonly notices: readonly string[];
}

/** `file` is absolute; null is standard output. */
export interface ExportInvocation {
  readonly kind: 'export';
  readonly config: Config;
  readonly notices: readonly string[];
  readonly file: string | null;
  readonly gzip: boolean;
  readonly resume: boolean;
}

/** `file` is absolute; null is standard input. */
export interface ImportInvocation {
  readonly kind: 'import';
  readonly config: Config;
  readonly notices: readonly string[];
  readonly file: string | null;
}

/** Everything that is wrong with flags and variables, at once: one sentence each, without any secret. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
  readonly problems: readonly string[];
  /** Where to read on. */
  readonly hint: string;

  constructor(problems: readonly string[], hint = 'npm start -- --help lists every setting.') {
    super(problems.join('\n'));
    this.problems = problems;
    this.hint = hint;
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * What `sluice [start] [flags]`, `sluice export [file] [flags]`, `sluice import [file] [flags]`, `sluice verify [flags]`, `sluice audit verify [flags]`, `sluice migrate [flags]`, `sluice restored [flags]` or a command of `client-commands.ts` asks for. `args` are the arguments after the
 * program's name; `cwd` is what a relative path is relative to. Throws a `UsageError` with all problems. `--help` and `--version` are answered
 * whatever else is wrong.
 */
export function readInvocation(
  args: readonly string[],
  environment: Environment = process.env,
  cwd: string = process.cwd(),
): Invocation {
  const client = readClientArguments(args, environment);
  if (client?.kind === 'wrong')
    throw new UsageError(client.problems, `sluice ${client.topic} --help tells how it is used.`);
  if (client !== null) return client.kind === 'client' ? { ...client, notices: unknownVariables(environment) } : client;

  const flags = readFlags(args);
  if (flags.switches.has('help')) return { kind: 'help', topic: null };
  if (flags.switches.has('version')) return { kind: 'version' };

  const problems = [...flags.problems];
  const notices = unknownVariables(environment);
  /** The text of a setting and the name it was given by, which is what its messages start with. */
  const given = (variable: string): Given | undefined => {
    const byFlag = flags.values.get(flagOf(variable));
    if (byFlag !== undefined) return { label: `--${flagOf(variable)}`, text: byFlag };
    const byVariable = environment[variable];
    return byVariable === undefined || byVariable === '' ? undefined : { label: variable, text: byVariable };
  };

  for (const later of laterSettings) {
    const got = given(later.variable);
    if (got !== undefined) notices.push(`${got.label} ${later.notice}.`);
  }

  const values: Record<string, unknown> = {};
  for (const [name, row] of Object.entries(settings)) {
    try {
      values[name] = parseSetting(row, given(row.variable), cwd);
    } catch (error) {
      if (!(error instanceof SettingError)) throw error;
      problems.push(error.message);
    }
  }
  if (problems.length > 0) throw new UsageError(problems);

  // Every row of the table has been parsed by its own type, which is what Config is made of.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  const config = values as Config;
  const { command } = flags;
  const conflicts = command === 'start' ? startConflicts(config, given) : [];
  const unusable = config.databaseUrl === null ? folderProblem(config.dataDir) : undefined;
  if (unusable !== undefined) conflicts.push(`${given('SLUICE_DATA_DIR')?.label ?? 'SLUICE_DATA_DIR'}: ${unusable}`);
  if (conflicts.length > 0) throw new UsageError(conflicts);
  if (command === 'start') return { kind: 'start', config, notices };
  if (command === 'audit') {
    if (flags.file !== 'verify') throw new UsageError(['audit: it is `sluice audit verify`']);
    return { kind: 'audit', config, notices };
  }
  if (command === 'verify') {
    if (flags.file !== undefined) throw new UsageError(['verify: it takes flags only, and verifies every org']);
    return { kind: 'verify', config, notices };
  }
  if (command === 'restored') {
    if (flags.file !== undefined) throw new UsageError(['restored: it takes flags only, and is meant for every org']);
    return { kind: 'restored', config, notices };
  }
  if (command === 'migrate') {
    if (flags.file !== undefined) throw new UsageError(['migrate: it takes flags only']);
    const [dryRun, printRoles] = [flags.switches.has('dry-run'), flags.switches.has('print-roles')];
    return { kind: 'migrate', config, notices, dryRun, printRoles };
  }
  const file = flags.file === undefined || flags.file === '-' ? null : resolve(cwd, flags.file);
  if (command === 'import') return { kind: 'import', config, notices, file };
  const resume = flags.switches.has('resume');
  if (resume && file === null) throw new UsageError(['--resume: name the file of the export that was cut']);
  return {
    kind: 'export',
    config,
    notices,
    file,
    gzip: flags.switches.has('gzip') || file?.endsWith('.gz') === true,
    resume,
  };
}

interface Given {
  readonly label: string;
  readonly text: string;
}

function parseSetting(row: Setting, given: Given | undefined, cwd: string): unknown {
  const text = given?.text ?? row.default;
  if (text === null) return null;
  try {
    return row.type.parse(text, cwd);
  } catch (error) {
    if (!(error instanceof SettingError)) throw error;
    throw new SettingError(`${given?.label ?? row.variable}: ${error.message}`);
  }
}

/** What is wrong between settings that are each valid, for a server. */
function startConflicts(config: Config, given: (variable: string) => Given | undefined): string[] {
  const label = (variable: string): string => given(variable)?.label ?? variable;
  const conflicts: string[] = [];
  if (config.databaseUrl !== null && config.adminToken === null) {
    conflicts.push(
      `SLUICE_ADMIN_TOKEN: required with ${label('DATABASE_URL')}; use 16 to 256 characters, the same on every node of that database`,
    );
  }
  if (config.databaseUrl !== null && given('SLUICE_INGEST_LANES') && config.ingestLanes >= config.dbPool) {
    conflicts.push(
      `${label('SLUICE_INGEST_LANES')}: ${config.ingestLanes} lanes leave no connection for anything else; use less than ${label('SLUICE_DB_POOL')} (${config.dbPool})`,
    );
  }
  if (config.databaseUrl === null && config.workers > 1) {
    conflicts.push(
      `${label('SLUICE_WORKERS')}: the embedded database is for one process; use 1, or name a PostgreSQL server with DATABASE_URL`,
    );
  }
  if (config.databaseUrl === null && config.role !== 'all') {
    conflicts.push(
      `${label('SLUICE_ROLE')}: the embedded database is for one process, which does all; use all, or name a PostgreSQL server with DATABASE_URL`,
    );
  }
  if (config.role === 'worker' && config.workers > 1) {
    conflicts.push(
      `${label('SLUICE_WORKERS')}: in the role worker one process does all there is to do; use 1, and start another node to have a second`,
    );
  }
  if (config.metricsPort !== null && config.metricsPort === config.port) {
    conflicts.push(`${label('SLUICE_METRICS_PORT')}: ${config.port} is the main port; use another one`);
  }
  return conflicts;
}

const commands = ['start', 'export', 'import', 'audit', 'verify', 'migrate', 'restored'] as const;
type Command = (typeof commands)[number];

/** Flags without a value, by the command that has them. */
const commandSwitches: { readonly [Name in Command]?: readonly string[] } = {
  export: ['gzip', 'resume'],
  migrate: ['dry-run', 'print-roles'],
};

interface Flags {
  readonly command: Command;
  /** What export and import take besides flags, and what audit is to do. */
  readonly file: string | undefined;
  readonly switches: ReadonlySet<string>;
  readonly values: ReadonlyMap<string, string>;
  readonly problems: readonly string[];
}

const variables: readonly string[] = [...Object.values(settings), ...laterSettings].map((row) => row.variable);
const valueFlags = variables.map(flagOf);

/** Tokens instead of parseArgs' own strictness, which stops at the first problem and repeats values that may be secret. */
function readFlags(args: readonly string[]): Flags {
  const { tokens } = parseArgs({
    args: [...args],
    options: {
      ...Object.fromEntries(valueFlags.map((flag) => [flag, { type: 'string' as const }])),
      help: { type: 'boolean', short: 'h' },
      version: { type: 'boolean', short: 'v' },
      ...Object.fromEntries(
        Object.values(commandSwitches)
          .flat()
          .map((flag) => [flag, { type: 'boolean' as const }]),
      ),
    },
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const command = commands.find((name) => name === args[0]) ?? 'start';
  const isSwitch = (name: string): boolean =>
    name === 'help' || name === 'version' || commandSwitches[command]?.includes(name) === true;
  let file: string | undefined;
  const switches = new Set<string>();
  const values = new Map<string, string>();
  const problems: string[] = [];
  /** Where the value of a flag stands that is refused already, so that it is not refused once more as an argument. */
  let refusedValueAt = -1;
  for (const token of tokens) {
    if (token.kind === 'option-terminator') continue;
    if (token.kind === 'positional') {
      const isCommand = token.index === 0 && token.value === command;
      if (isCommand || token.index === refusedValueAt) continue;
      if (command !== 'start' && file === undefined) file = token.value;
      else problems.push(unexpectedArgument(token.value, token.index));
    } else if (isSwitch(token.name)) {
      if (token.value === undefined) switches.add(token.name);
      else problems.push(`${token.rawName} takes no value`);
    } else if (!valueFlags.includes(token.name)) {
      if (token.value === undefined) refusedValueAt = token.index + 1;
      problems.push(`${token.rawName}: no such flag; ${suggestFlag(token.name)}`);
    } else if (token.value === undefined || token.value === '') {
      problems.push(`${token.rawName} needs a value`);
    } else if (!token.inlineValue && token.value.startsWith('-')) {
      // It was taken for the value of this flag, though it is most likely a flag with a value of its own.
      refusedValueAt = token.index + 2;
      problems.push(`${token.rawName} needs a value; one that starts with a dash is written ${token.rawName}=-…`);
    } else {
      values.set(token.name, token.value);
    }
  }
  return { command, file, switches, values, problems };
}

function suggestFlag(name: string): string {
  const near = nearest(name, [...valueFlags, 'help', 'version']);
  return near === undefined ? '--help lists them all' : `did you mean --${near}?`;
}

/** Repeats only what looks like a command: anything else may be a secret that lost its flag. */
function unexpectedArgument(text: string, index: number): string {
  const what = /^[a-z][a-z-]{0,19}$/.test(text) ? text : `argument ${index + 1}`;
  const names = [...commands, ...clientCommandGroups];
  const near = index === 0 ? nearest(text, names) : undefined;
  if (near !== undefined && near !== text) return `${what}: no such command; did you mean ${near}?`;
  return `${what}: not understood here; --help lists what is`;
}

function unknownVariables(environment: Environment): string[] {
  const known = [...variables, ...clientSettings.map(({ variable }) => variable)];
  return Object.keys(environment)
    .filter((name) => name.startsWith('SLUICE_') && !known.includes(name))
    .map((name) => {
      const near = nearest(name, known);
      return `${name} is not a setting and has no effect${near === undefined ? '' : `; did you mean ${near}?`}`;
    });
}
