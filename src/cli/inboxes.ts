/** `sluice inboxes …`: the inboxes of the org. */
import type { RunCommand } from './client-command.js';
import { say } from './start.js';

export const listInboxes: RunCommand = async ({ client, out, signal }) => {
  for await (const inbox of client().inboxes.list({ pageSize: 1_000, signal })) await out.json(inbox);
  return 0;
};

export const createInbox: RunCommand = async ({ invocation, client, out, signal }) => {
  const { values } = invocation;
  const types = values.get('types')?.[0]?.split(',');
  const start = values.get('start')?.[0];
  const attempts = values.get('max-attempts')?.[0];
  const spec = {
    name: invocation.arguments[0] ?? '',
    ...(types === undefined ? {} : { types }),
    ...(start === undefined ? {} : { start }),
    ...(attempts === undefined ? {} : { max_attempts: Number(attempts) }),
  };
  await out.json(await client().inboxes.create(spec, { signal }));
  return 0;
};

export const deleteInbox: RunCommand = async ({ invocation, client, signal }) => {
  await client().inboxes.delete(invocation.arguments[0] ?? '', { signal });
  say('The inbox is deleted.');
  return 0;
};
