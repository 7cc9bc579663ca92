/** `sluice orgs …`, with the admin token. */
import type { OrgChange, OrgLimits, Tier } from '../client/index.js';
import type { CommandContext, RunCommand } from './client-command.js';
import { CommandError } from './command-error.js';
import { say } from './start.js';

export const listOrgs: RunCommand = async ({ adminClient, out, signal }) => {
  for await (const org of adminClient().orgs.list({ pageSize: 1_000, signal })) await out.json(org);
  return 0;
};

export const createOrg: RunCommand = async ({ invocation, adminClient, out, signal }) => {
  const tier = invocation.values.get('tier')?.[0] as Tier | undefined;
  const name = invocation.arguments[0] ?? '';
  await out.json(await adminClient().orgs.create({ name, ...(tier === undefined ? {} : { tier }) }, { signal }));
  return 0;
};

export const showOrg: RunCommand = async ({ invocation, adminClient, out, signal }) => {
  await out.json(await adminClient().orgs.get(invocation.arguments[0] ?? '', { signal }));
  return 0;
};

export const changeOrg: RunCommand = async ({ invocation, adminClient, out, signal }) => {
  const change = changeOf(invocation);
  await out.json(await adminClient().orgs.update(invocation.arguments[0] ?? '', change, { signal }));
  return 0;
};

export const deleteOrg: RunCommand = async ({ invocation, adminClient, signal }) => {
  const { orgs } = adminClient();
  const org = await orgs.get(invocation.arguments[0] ?? '', { signal });
  if (!invocation.switches.has('yes')) {
    throw new CommandError(
      `This would erase the org "${org.name}" (${org.id}) with everything of it; add --yes if you mean it.`,
      2,
    );
  }
  await orgs.delete(org.id, { signal });
  say(`The org "${org.name}" (${org.id}) is deleted.`);
  return 0;
};

function changeOf({ values, switches }: CommandContext['invocation']): OrgChange {
  const value = (flag: string): string | undefined => values.get(flag)?.[0];
  const limits: Record<string, unknown> = {};
  const change: Record<string, unknown> = {};
  for (const flag of ['name', 'tier']) if (values.has(flag)) change[flag] = value(flag);
  if (values.has('rate')) limits['rate_per_minute'] = Number(value('rate'));
  if (values.has('burst')) limits['burst'] = Number(value('burst'));
  if (values.has('mode')) limits['mode'] = value('mode');
  if (switches.has('suspend') && switches.has('resume'))
    throw new CommandError('Either --suspend or --resume, not both.', 2);
  if (switches.has('suspend') || switches.has('resume')) change['suspended'] = switches.has('suspend');
  if (Object.keys(limits).length > 0) change['limits'] = limits satisfies Partial<Record<keyof OrgLimits, unknown>>;
  if (Object.keys(change).length === 0)
    throw new CommandError('orgs change needs something to change, such as --tier pro.', 2);
  return change;
}
