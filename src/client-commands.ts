/**
 * The commands that talk to a server: one table, which `config.ts` reads arguments by and `cli/help.ts` lists. What each does is in a file of
 * its own in `cli/`.
 */
import { anyText, oneOf, wholeNumber } from './setting-types.js';
import type { SettingType } from './setting-types.js';

export interface CommandFlag {
  /** Null: a switch, without a value. */
  readonly type: SettingType<unknown> | null;
  readonly help: string;
  readonly repeatable?: true;
}

export interface ClientCommand {
  /** What follows `sluice` on the command line; arguments in capitals, optional parts in brackets. */
  readonly usage: readonly string[];
  readonly help: string;
  /** How many arguments it takes, flags aside. */
  readonly arguments: readonly [min: number, max: number];
  readonly flags: Readonly<Record<string, CommandFlag>>;
}

/** Where a server is and who asks: settings of every command here, each a flag and a variable. */
export const clientSettings = [
  {
    flag: 'url',
    variable: 'SLUICE_URL',
    placeholder: 'url',
    default: 'http://127.0.0.1:8080',
    help: 'Address of the server.',
  },
  { flag: 'key', variable: 'SLUICE_KEY', placeholder: 'key', default: null, help: 'API key, slk_live_….' },
  {
    flag: 'admin-token',
    variable: 'SLUICE_ADMIN_TOKEN',
    placeholder: 'token',
    default: null,
    help: 'Admin token of the server, for orgs and smoke. The embedded database keeps it in data/admin-token.',
  },
] as const;

const tier = oneOf('tier', ['free', 'pro', 'business', 'enterprise']);
const rate = wholeNumber('events', 'a number of events', 1, 1_000_000_000);
const seconds = (min: number, max: number): SettingType<number> =>
  wholeNumber('seconds', 'a number of seconds', min, max);
const inbox: CommandFlag = { type: anyText('name'), help: 'Another inbox than default.' };
const leaseSecondsMax = 43_200;

function command(
  usage: string | readonly string[],
  help: string,
  [min, max]: readonly [number, number],
  flags: ClientCommand['flags'] = {},
): ClientCommand {
  return { usage: typeof usage === 'string' ? [usage] : usage, help, arguments: [min, max], flags };
}

export const clientCommands = {
  send: command(
    ['send TYPE JSON [--dedup-id ID] [--subject SUBJECT]', 'send --file events.ndjson [--concurrency N]', 'send -'],
    'Sends one event; or those of a file or of standard input (-), one JSON object a line, and says how many were stored, duplicate and refused.',
    [0, 2],
    {
      file: { type: anyText('file'), help: 'Lines such as {"type": "user.created", "payload": {"user_id": 1}}.' },
      'dedup-id': { type: anyText('id'), help: 'Events of the same id are stored once. Absent: a random one.' },
      subject: { type: anyText('subject'), help: 'Whom the event is about, such as user/12345.' },
      concurrency: {
        type: wholeNumber('batches', 'a number of batches', 1, 64),
        help: 'Batches under way at one time. 1, when absent, keeps the order of the lines.',
      },
    },
  ),
  receive: command(
    'receive [--inbox NAME] [--max N] [--wait S] [--lease S] [--ack]',
    'Takes pending events under a lease and writes them to standard output, one JSON object a line.',
    [0, 0],
    {
      inbox,
      max: { type: wholeNumber('events', 'a number of events', 1, 1000), help: 'Events at most. 50 when absent.' },
      wait: { type: seconds(0, 30), help: 'Seconds to wait for an event. 0 when absent.' },
      lease: { type: seconds(1, leaseSecondsMax), help: 'Seconds until they are handed out again. 60 when absent.' },
      ack: { type: null, help: 'Acknowledges them once they are written.' },
    },
  ),
  ack: command(
    ['ack ID... [--inbox NAME]', 'ack --lease LEASE [--inbox NAME]'],
    'Acknowledges events by their ids, or all that a lease holds.',
    [0, 1000],
    { inbox, lease: { type: anyText('lease'), help: 'The lease_id that receive told.' } },
  ),
  tail: command(
    'tail [--type PATTERN]... [--since TIME]',
    'Writes events to standard output as they are stored, one JSON object a line, until it is ended. No inbox is touched.',
    [0, 0],
    {
      type: {
        type: anyText('pattern'),
        help: 'Only these types, such as order.* (several times: any of them).',
        repeatable: true,
      },
      since: {
        type: anyText('time'),
        help: 'Begins with those received at this time. Absent: what is stored from now on.',
      },
    },
  ),
  'orgs list': command('orgs list', 'Lists all orgs.', [0, 0]),
  'orgs create': command('orgs create NAME [--tier TIER]', 'Makes an org; its first key is shown only now.', [1, 1], {
    tier: { type: tier, help: 'free, pro, business or enterprise. free when absent.' },
  }),
  'orgs show': command('orgs show ID', 'Shows an org.', [1, 1]),
  'orgs change': command(
    [
      'orgs change ID [--name NAME] [--tier TIER] [--suspend | --resume]',
      'orgs change ID [--rate N] [--burst N] [--mode MODE]',
    ],
    'Changes an org.',
    [1, 1],
    {
      name: { type: anyText('name'), help: 'Its new name.' },
      tier: { type: tier, help: 'free, pro, business or enterprise.' },
      rate: { type: rate, help: 'Events a minute.' },
      burst: { type: rate, help: 'Events at once.' },
      mode: { type: oneOf('mode', ['enforce', 'shadow']), help: 'shadow only counts what it would refuse.' },
      suspend: { type: null, help: 'Its keys are refused until it is resumed.' },
      resume: { type: null, help: 'Ends a suspension.' },
    },
  ),
  'orgs delete': command('orgs delete ID --yes', 'Erases an org with everything of it.', [1, 1], {
    yes: { type: null, help: 'Says that you mean it.' },
  }),
  'keys list': command('keys list', 'Lists the keys of the org.', [0, 0]),
  'keys create': command(
    'keys create NAME [--scopes a,b] [--expires TIME]',
    'Makes a key, which is shown only now.',
    [1, 1],
    {
      scopes: { type: anyText('scopes'), help: 'Separated by commas. Absent: those of the key that asks.' },
      expires: { type: anyText('time'), help: 'When it dies, such as 2027-01-31T00:00:00Z. Absent: never.' },
    },
  ),
  'keys rotate': command('keys rotate ID [--grace S]', 'Makes a new key in the place of this one.', [1, 1], {
    grace: { type: seconds(0, 30 * 86_400), help: 'Seconds that the old one still works. 0 when absent.' },
  }),
  'keys delete': command('keys delete ID', 'Revokes a key, everywhere within a second.', [1, 1]),
  'inboxes list': command('inboxes list', 'Lists the inboxes of the org.', [0, 0]),
  'inboxes create': command(
    'inboxes create NAME [--types a,b] [--start WHEN] [--max-attempts N]',
    'Makes an inbox.',
    [1, 1],
    {
      types: {
        type: anyText('patterns'),
        help: 'Only these types, separated by commas, such as order.*,user.created.',
      },
      start: { type: anyText('when'), help: 'now (when absent), beginning, or a time.' },
      'max-attempts': {
        type: wholeNumber('attempts', 'a number of attempts', 1, 100),
        help: 'After so many an event is a dead letter. 10 when absent.',
      },
    },
  ),
  'inboxes delete': command('inboxes delete NAME', 'Deletes an inbox, not its events.', [1, 1]),
  smoke: command(
    'smoke [URL]',
    'Tries a server from key to acknowledgement and says which part fails: with the admin token in an org of its own, else with the key, in an inbox of its own.',
    [0, 1],
  ),
} as const satisfies Record<string, ClientCommand>;

export type ClientCommandName = keyof typeof clientCommands;

/** Of each name its first word, which is what is shown where all commands are named. */
export const clientCommandGroups: readonly string[] = [
  ...new Set(Object.keys(clientCommands).map((name) => name.split(' ', 1)[0] ?? name)),
];
