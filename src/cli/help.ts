import { clientCommands, clientSettings } from '../client-commands.js';
import type { ClientCommand } from '../client-commands.js';
import { flagOf, laterSettings, settings } from '../settings.js';

const widthMax = 100;
const indent = '      ';

/** What `--help` prints: every setting of the table, with its flag, its variable and its default. Ends without a line break. */
export function helpText(): string {
  const lines = [
    'Usage: sluice [start] [flags]',
    '       sluice export [file|-] [--gzip] [--resume] [flags]',
    '       sluice import [file|-] [flags]',
    '       sluice verify [flags]',
    '       sluice audit verify [flags]',
    '       sluice migrate [--dry-run | --print-roles] [flags]',
    '       sluice restored [flags]',
    '',
    'start   Starts the server: on its own embedded database, or on PostgreSQL when DATABASE_URL',
    '        names one.',
    'export  Writes all orgs, with keys, events and consumers, to a file or to standard output.',
    '        --gzip (or a name that ends in .gz) compresses it, --resume goes on with a file that',
    '        was cut. A server on the embedded database has to be stopped first.',
    'import  Stores such an export in a database that has none of its orgs. Repeated, it goes on',
    '        where it was ended.',
    'verify  Finds the place of every event in every subscription (pending, leased, delivered, dead) and',
    '        writes the counts. Exit code 1 names the first subscription that does not add up.',
    'audit   verify: checks every row of the audit logs. Writes where each chain ends to standard',
    '        output; keep that elsewhere. Exit code 1 names the first row that is wrong.',
    'migrate Brings the schema of the database up to date. --dry-run says what that would do and lock,',
    '        and changes nothing; --print-roles prints the SQL that makes the roles by hand, so that the',
    '        user of DATABASE_URL needs no CREATEROLE.',
    'restored',
    '        To be run after rows of a running PostgreSQL were put back by hand, so that no event id is',
    '        given out a second time. Every other restore is noticed without it.',
    '',
    'Every setting is a flag and an environment variable; the flag wins.',
    '',
    'Commands that talk to a server (sluice COMMAND --help tells more):',
    ...Object.values(clientCommands).flatMap(({ usage, help }) => [...usage.map((line) => `  ${line}`), ...wrap(help)]),
    '',
    'Settings of those commands:',
    ...clientSettingLines(),
    '',
    'Settings of start, export, import, verify, audit, migrate and restored:',
  ];
  for (const row of Object.values(settings)) {
    const absent = row.default === null ? '' : `, default ${row.default}`;
    lines.push(`  --${flagOf(row.variable)} <${row.type.placeholder}>  (${row.variable}${absent})`, ...wrap(row.help));
  }
  lines.push('', 'Known names with no effect in this version:');
  for (const row of laterSettings) {
    lines.push(`  --${flagOf(row.variable)} <${row.placeholder}>  (${row.variable})`, ...wrap(row.notice));
  }
  lines.push('', '  --help, -h       Show this.', '  --version, -v    Show the version.');
  lines.push('', 'Exit codes: 0 stopped cleanly, 1 failed, 2 flags or variables that cannot be used.');
  return lines.join('\n');
}

/** What `sluice send --help` prints, or of `sluice orgs --help` all commands that begin so. Ends without a line break. */
export function commandHelpText(topic: string): string {
  const lines: string[] = [];
  for (const [name, row] of Object.entries<ClientCommand>(clientCommands)) {
    if (name !== topic && !name.startsWith(`${topic} `)) continue;
    lines.push(...row.usage.map((usage, i) => `${i === 0 ? 'Usage:' : '      '} sluice ${usage}`), ...wrap(row.help));
    for (const [flag, { type, help }] of Object.entries(row.flags)) {
      lines.push(`  --${flag}${type === null ? '' : ` <${type.placeholder}>`}`, ...wrap(help));
    }
    lines.push('');
  }
  return [...lines, 'Settings:', ...clientSettingLines(), '', 'Exit codes: 0 done, 1 failed, 2 not understood.'].join(
    '\n',
  );
}

function clientSettingLines(): string[] {
  return clientSettings.flatMap(({ flag, placeholder, variable, default: otherwise, help }) => [
    `  --${flag} <${placeholder}>  (${variable}${otherwise === null ? '' : `, default ${otherwise}`})`,
    ...wrap(help),
  ]);
}

function wrap(text: string): string[] {
  const lines: string[] = [];
  let line = indent;
  for (const word of text.split(' ')) {
    if (line.length + word.length + 1 > widthMax && line !== indent) {
      lines.push(line.trimEnd());
      line = indent;
    }
    line += `${word} `;
  }
  return [...lines, line.trimEnd()];
}
