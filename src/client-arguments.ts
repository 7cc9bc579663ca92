/** The arguments of a command that talks to a server. */
import { parseArgs } from 'node:util';
import { clientCommandGroups, clientCommands, clientSettings } from './client-commands.js';
import type { ClientCommand, ClientCommandName } from './client-commands.js';
import { nearest } from './nearest.js';
import { SettingError } from './setting-types.js';

export interface ClientInvocation {
  readonly kind: 'client';
  readonly command: ClientCommandName;
  readonly url: string;
  readonly key: string | null;
  readonly adminToken: string | null;
  readonly arguments: readonly string[];
  /** By flag, each valid as its type says. */
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly switches: ReadonlySet<string>;
  readonly notices: readonly string[];
}

export type ReadClientArguments =
  | { readonly kind: 'help'; readonly topic: string }
  | { readonly kind: 'version' }
  | { readonly kind: 'wrong'; readonly topic: string; readonly problems: readonly string[] }
  | Omit<ClientInvocation, 'notices'>;

/** Null if the first argument names no command of the table. No problem repeats a key or a token. */
export function readClientArguments(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): ReadClientArguments | null {
  const [group] = args;
  if (group === undefined || !clientCommandGroups.includes(group)) return null;
  const name = [args.slice(0, 2).join(' '), group].find(isCommand);
  const rest = args.slice(name?.split(' ').length ?? 1);
  const row: ClientCommand = name === undefined ? noCommand : clientCommands[name];
  const { positionals, values, switches, problems } = readFlags(row, rest);
  if (switches.has('help')) return { kind: 'help', topic: name ?? group };
  if (switches.has('version')) return { kind: 'version' };
  if (name === undefined) return { kind: 'wrong', topic: group, problems: [actionsOf(group, positionals[0])] };

  const [min, max] = row.arguments;
  if (positionals.length < min) problems.push(`${name} needs ${/ ([A-Z]+)/.exec(row.usage[0] ?? '')?.[1]}`);
  if (positionals.length > max)
    problems.push(`${name} takes ${max === 0 ? 'no argument' : `at most ${max} arguments`}`);
  const settings = readSettings(values, environment);
  if (problems.length > 0) return { kind: 'wrong', topic: name, problems };
  return { kind: 'client', command: name, ...settings, arguments: positionals, values, switches };
}

const noCommand: ClientCommand = { usage: [], help: '', arguments: [0, Infinity], flags: {} };

function isCommand(name: string): name is ClientCommandName {
  return Object.hasOwn(clientCommands, name);
}

function actionsOf(group: string, given: string | undefined): string {
  const actions = Object.keys(clientCommands).flatMap((name) =>
    name.startsWith(`${group} `) ? [name.split(' ')[1] ?? ''] : [],
  );
  const near = given === undefined ? undefined : nearest(given, actions);
  return `${group} needs one of ${actions.join(', ')}${near === undefined ? '' : `; did you mean ${near}?`}`;
}

function readSettings(
  values: ReadonlyMap<string, readonly string[]>,
  environment: Readonly<Record<string, string | undefined>>,
): Pick<ClientInvocation, 'url' | 'key' | 'adminToken'> {
  const [url, key, adminToken] = clientSettings.map(
    ({ flag, variable, default: otherwise }) => values.get(flag)?.at(-1) ?? (environment[variable] || otherwise),
  );
  return { url: url ?? '', key: key ?? null, adminToken: adminToken ?? null };
}

interface Flags {
  readonly positionals: readonly string[];
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly switches: ReadonlySet<string>;
  readonly problems: string[];
}

function readFlags(row: ClientCommand, args: readonly string[]): Flags {
  const valueFlags: string[] = [...clientSettings.map(({ flag }) => flag), ...flagsOf(row, false)];
  const switchFlags = [...flagsOf(row, true), 'help', 'version'];
  const { tokens } = parseArgs({
    args: [...args],
    options: {
      ...Object.fromEntries(valueFlags.map((flag) => [flag, { type: 'string' as const }])),
      ...Object.fromEntries(switchFlags.map((flag) => [flag, { type: 'boolean' as const }])),
      help: { type: 'boolean', short: 'h' },
      version: { type: 'boolean', short: 'v' },
    },
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const positionals: string[] = [];
  const values = new Map<string, string[]>();
  const switches = new Set<string>();
  const problems: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'option-terminator') continue;
    if (token.kind === 'positional') positionals.push(token.value);
    else if (switchFlags.includes(token.name)) {
      if (token.value === undefined) switches.add(token.name);
      else problems.push(`${token.rawName} takes no value`);
    } else if (!valueFlags.includes(token.name)) {
      const near = nearest(token.name, [...valueFlags, ...switchFlags]);
      problems.push(
        `${token.rawName}: no such flag; ${near === undefined ? '--help lists them' : `did you mean --${near}?`}`,
      );
    } else if (token.value === undefined || token.value === '') {
      problems.push(`${token.rawName} needs a value`);
    } else if (!token.inlineValue && token.value.startsWith('-') && token.value !== '-') {
      problems.push(`${token.rawName} needs a value; one that starts with a dash is written ${token.rawName}=-…`);
    } else {
      const earlier = values.get(token.name) ?? [];
      if (earlier.length > 0 && row.flags[token.name]?.repeatable !== true)
        problems.push(`${token.rawName} is given twice`);
      values.set(token.name, [...earlier, token.value]);
      problems.push(...typeProblem(row, token.name, token.value));
    }
  }
  return { positionals, values, switches, problems };
}

function flagsOf(row: ClientCommand, areSwitches: boolean): string[] {
  return Object.entries(row.flags).flatMap(([flag, { type }]) => ((type === null) === areSwitches ? [flag] : []));
}

function typeProblem(row: ClientCommand, flag: string, text: string): string[] {
  try {
    row.flags[flag]?.type?.parse(text, '');
    return [];
  } catch (error) {
    if (!(error instanceof SettingError)) throw error;
    return [`--${flag}: ${error.message}`];
  }
}
