/** `sluice ack`: by ids, or by lease. */
import type { RunCommand } from './client-command.js';
import { CommandError } from './command-error.js';
import { say } from './start.js';

export const runAck: RunCommand = async ({ invocation, client, out, signal }) => {
  const ids = invocation.arguments;
  const leaseId = invocation.values.get('lease')?.[0];
  if (ids.length > 0 === (leaseId !== undefined)) {
    throw new CommandError('ack needs the ids of events, or --lease with the lease_id that receive told.', 2);
  }
  const inbox = client().inbox(invocation.values.get('inbox')?.[0]);
  const result = await inbox.ack(leaseId === undefined ? ids : { leaseId }, { signal });
  await out.json(result);
  if (result.unknown.length === 0) return 0;
  say('Some ids are not known to this inbox; copy them as they were given out.');
  return 1;
};
