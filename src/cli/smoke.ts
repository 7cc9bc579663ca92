/** `sluice smoke`: one event on its way through a server, and which part of the way fails. */
import { randomBytes } from 'node:crypto';
import { SluiceError } from '../client/index.js';
import type { Inbox, Sluice } from '../client/index.js';
import type { CommandContext, RunCommand } from './client-command.js';
import { errorSentence } from './client-failure.js';
import { CommandError } from './command-error.js';
import { say } from './start.js';

const readySecondsMax = 10;
const receiveWaitSeconds = 10;
/** Comes back as it is only if nobody has parsed it on the way. */
const rawPayload = '{"precise": 3.14159265358979323846264, "spaced" :  [ ]}';

export const runSmoke: RunCommand = async (context) => {
  const { invocation, out, signal } = context;
  const url = invocation.arguments[0] ?? invocation.url;
  const isAdmin = invocation.adminToken !== null;
  /** Runs one part of the way and tells of it. */
  const part = async <Value>(name: string, work: () => Promise<readonly [Value, string]>): Promise<Value> => {
    try {
      const [value, told] = await work();
      await out.write(`ok      ${name.padEnd(7)} ${told}`);
      return value;
    } catch (error) {
      if (!(error instanceof SluiceError || error instanceof CommandError)) throw error;
      const sentence = error instanceof SluiceError ? errorSentence(error, isAdmin && name === 'key') : error.message;
      await out.write(`FAILED  ${name.padEnd(7)} ${sentence}`);
      throw new CommandError(`The way of an event is broken at: ${name}.`);
    }
  };

  // First of all, so that a missing key is said before anything is tried.
  const credential = isAdmin ? context.adminClient({ url }) : context.client({ url });
  await part('server', async () => [null, await ready(url, signal)]);
  const place = await part('key', () => (isAdmin ? ownOrg(context, credential, url) : ownInbox(credential, signal)));
  try {
    const { id } = await part('event', async () => {
      const receipt = await place.client.events.send({ type: place.type, rawPayload }, { signal });
      return [receipt, `${receipt.id} stored (${receipt.durability})`];
    });
    const leaseId = await part('inbox', () => receive(place.inbox, id, signal));
    await part('ack', async () => {
      const { acknowledged } = await place.inbox.ack({ leaseId }, { signal });
      if (acknowledged !== 1)
        throw new CommandError(`${acknowledged} events were acknowledged instead of 1; look at the server's log.`);
      return [null, 'acknowledged'];
    });
  } finally {
    await cleanUp(place);
  }
  await out.write(`${url} works.`);
  return 0;
};

interface Place {
  readonly client: Sluice;
  readonly inbox: Inbox;
  readonly type: string;
  /** What was made for this, and its end. */
  readonly made: string;
  readonly remove: () => Promise<void>;
}

async function ready(url: string, signal: AbortSignal): Promise<string> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(readySecondsMax * 1000)]);
  let response: Response;
  try {
    response = await fetch(`${url.replace(/\/+$/, '')}/readyz`, { signal: limit, redirect: 'manual' });
  } catch {
    signal.throwIfAborted();
    throw new CommandError(
      `No server answers at ${url}; start one with \`sluice start\`, or name another, as in: sluice smoke URL`,
    );
  }
  const body = (await response.json().catch(() => null)) as { readonly failing?: unknown } | null;
  if (response.status === 200 && body !== null) return `${url} can store events`;
  if (response.status === 503 && typeof body?.failing === 'string') {
    throw new CommandError(`The server cannot store events: ${body.failing}. Look at its log, and at its database.`);
  }
  throw new CommandError(
    `What answers at ${url} is not Sluice (status ${response.status} for /readyz); name its address.`,
  );
}

async function ownOrg(
  { client, signal }: CommandContext,
  admin: Sluice,
  url: string,
): Promise<readonly [Place, string]> {
  const org = await admin.orgs.create({ name: 'smoke test' }, { signal });
  const own = client({ url, key: org.key });
  const place = {
    client: own,
    inbox: own.inbox(),
    type: 'smoke.test',
    made: `the org ${org.id}`,
    remove: () => admin.orgs.delete(org.id),
  };
  return [place, `an org of its own, ${org.id}`];
}

async function ownInbox(client: Sluice, signal: AbortSignal): Promise<readonly [Place, string]> {
  const org = await client.org.get({ signal });
  const name = `smoke_${randomBytes(6).toString('hex')}`;
  const type = `smoke.${name}`;
  await client.inboxes.create({ name, types: [type] }, { signal });
  const remove = (): Promise<void> => client.inboxes.delete(name);
  const place = { client, inbox: client.inbox(name), type, made: `the inbox ${name}`, remove };
  return [place, `of the org "${org.name}", with an inbox of its own`];
}

/** The lease that holds the event. */
async function receive(inbox: Inbox, id: string, signal: AbortSignal): Promise<readonly [string, string]> {
  const options = { max: 1, waitSeconds: receiveWaitSeconds, rawPayload: true, signal };
  const { lease_id, data } = await inbox.receive(options);
  const [event] = data;
  if (lease_id === null || event === undefined) {
    throw new CommandError(`The event did not come within ${receiveWaitSeconds} seconds; look at the server's log.`);
  }
  if (event.id !== id) throw new CommandError(`Another event came, ${event.id}; is somebody else using this inbox?`);
  if (event.rawPayload !== rawPayload) {
    throw new CommandError('The payload came back changed; a proxy in between may rewrite what passes it.');
  }
  return [lease_id, 'received, byte for byte'];
}

async function cleanUp({ made, remove }: Place): Promise<void> {
  try {
    await remove();
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    say(`${made} could not be deleted and is left behind: ${error.detail}`);
  }
}
