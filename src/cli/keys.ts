/** `sluice keys …`: the keys of the org whose key asks. */
import type { Scope } from '../client/index.js';
import type { RunCommand } from './client-command.js';
import { say } from './start.js';

export const listKeys: RunCommand = async ({ client, out, signal }) => {
  for await (const key of client().keys.list({ pageSize: 1_000, signal })) await out.json(key);
  return 0;
};

export const createKey: RunCommand = async ({ invocation, client, out, signal }) => {
  const scopes = invocation.values.get('scopes')?.[0]?.split(',') as Scope[] | undefined;
  const expires = invocation.values.get('expires')?.[0];
  const spec = {
    name: invocation.arguments[0] ?? '',
    ...(scopes === undefined ? {} : { scopes }),
    ...(expires === undefined ? {} : { expires_at: expires }),
  };
  await out.json(await client().keys.create(spec, { signal }));
  return 0;
};

export const rotateKey: RunCommand = async ({ invocation, client, out, signal }) => {
  const graceSeconds = Number(invocation.values.get('grace')?.[0] ?? 0);
  await out.json(await client().keys.rotate(invocation.arguments[0] ?? '', { graceSeconds, signal }));
  return 0;
};

export const deleteKey: RunCommand = async ({ invocation, client, signal }) => {
  await client().keys.delete(invocation.arguments[0] ?? '', { signal });
  say('The key is revoked.');
  return 0;
};
