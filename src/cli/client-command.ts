/** Runs a command that talks to a server, and tells its failure in one sentence. */
import { Sluice, SluiceError } from '../client/index.js';
import type { SluiceOptions } from '../client/index.js';
import type { ClientInvocation } from '../client-arguments.js';
import type { ClientCommandName } from '../client-commands.js';
import { errorSentence } from './client-failure.js';
import { CommandError } from './command-error.js';
import { Lines, OutputClosed } from './output.js';
import { say } from './start.js';

/** What a command is given. */
export interface CommandContext {
  readonly invocation: ClientInvocation;
  /** Standard output. */
  readonly out: Lines;
  /** Aborted by SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
  /** A client with the key. Throws a `CommandError` without one. */
  readonly client: (options?: Partial<SluiceOptions>) => Sluice;
  /** A client with the admin token. Throws a `CommandError` without one. */
  readonly adminClient: (options?: Partial<SluiceOptions>) => Sluice;
}

/** Resolves with the exit code. */
export type RunCommand = (context: CommandContext) => Promise<0 | 1>;

const load: Record<ClientCommandName, () => Promise<RunCommand>> = {
  send: async () => (await import('./send.js')).runSend,
  receive: async () => (await import('./receive.js')).runReceive,
  ack: async () => (await import('./ack.js')).runAck,
  tail: async () => (await import('./tail.js')).runTail,
  'orgs list': async () => (await import('./orgs.js')).listOrgs,
  'orgs create': async () => (await import('./orgs.js')).createOrg,
  'orgs show': async () => (await import('./orgs.js')).showOrg,
  'orgs change': async () => (await import('./orgs.js')).changeOrg,
  'orgs delete': async () => (await import('./orgs.js')).deleteOrg,
  'keys list': async () => (await import('./keys.js')).listKeys,
  'keys create': async () => (await import('./keys.js')).createKey,
  'keys rotate': async () => (await import('./keys.js')).rotateKey,
  'keys delete': async () => (await import('./keys.js')).deleteKey,
  'inboxes list': async () => (await import('./inboxes.js')).listInboxes,
  'inboxes create': async () => (await import('./inboxes.js')).createInbox,
  'inboxes delete': async () => (await import('./inboxes.js')).deleteInbox,
  smoke: async () => (await import('./smoke.js')).runSmoke,
};

/** Somebody waits for the answer, so it is not tried for long. */
const retry = { attemptsMax: 3, totalSeconds: 10 };

/** Resolves with the exit code: 0 done, 1 failed, 2 not understood. */
export async function runClientCommand(invocation: ClientInvocation): Promise<0 | 1 | 2> {
  for (const notice of invocation.notices) say(notice);
  const ended = new AbortController();
  const end = (): void => ended.abort();
  // Once: a second signal ends the process as it would without this.
  process.once('SIGINT', end).once('SIGTERM', end);
  try {
    const run = await load[invocation.command]();
    return await run(contextOf(invocation, ended.signal));
  } catch (error) {
    if (error instanceof OutputClosed) return 0;
    if (ended.signal.aborted) return 1;
    if (error instanceof CommandError) say(error.message);
    else if (error instanceof SluiceError) say(errorSentence(error, invocation.command.startsWith('orgs ')));
    else throw error;
    return error instanceof CommandError ? error.exitCode : 1;
  } finally {
    process.off('SIGINT', end).off('SIGTERM', end);
  }
}

function contextOf(invocation: ClientInvocation, signal: AbortSignal): CommandContext {
  const { url, key, adminToken } = invocation;
  const open = (credential: string, options: Partial<SluiceOptions>): Sluice => {
    try {
      return new Sluice({ url, key: credential, retry, ...options });
    } catch (error) {
      if (error instanceof TypeError) throw new CommandError(error.message, 2);
      throw error;
    }
  };
  return {
    invocation,
    signal,
    out: new Lines(process.stdout),
    client(options = {}) {
      const credential = options.key ?? key;
      if (credential !== null) return open(credential, options);
      throw new CommandError(
        'There is no key: give one with --key or SLUICE_KEY; the first start of a server prints one.',
        2,
      );
    },
    adminClient(options = {}) {
      if (adminToken !== null) return open(adminToken, options);
      throw new CommandError(
        'There is no admin token: give it with --admin-token or SLUICE_ADMIN_TOKEN; a server on the embedded database keeps it in data/admin-token.',
        2,
      );
    },
  };
}
