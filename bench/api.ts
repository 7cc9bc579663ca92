/** The few calls that set a node up: orgs without limits, and events to read. Of any version of Sluice, so replies are not held against this one's documents. */
import { requireLoopback } from './plan.js';

/** Throws with the reply's text unless it is a 2xx. */
export async function call(
  address: string,
  token: string,
  method: string,
  path: string,
  body?: unknown,
): Promise<string> {
  requireLoopback(address);
  const response = await fetch(address + path, {
    method,
    headers: {
      Authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path} was answered ${response.status}: ${text.slice(0, 500)}`);
  return text;
}

/** Keys of new orgs. Rate limits are counted, as always, but are not what is measured: one org gets more than it can use, and many share the load. */
export async function createKeys(address: string, adminToken: string, count: number): Promise<string[]> {
  const keys: string[] = [];
  const limits = { rate_per_minute: 1_000_000_000, burst: 1_000_000_000 };
  const create = async (): Promise<void> => {
    const org = JSON.parse(
      await call(address, adminToken, 'POST', '/v1/orgs', { name: 'bench', tier: 'enterprise' }),
    ) as {
      readonly id: string;
      readonly key: string;
    };
    if (count === 1) await call(address, adminToken, 'PATCH', `/v1/orgs/${org.id}`, { limits });
    keys.push(org.key);
  };
  let begun = 0;
  const worker = async (): Promise<void> => {
    while (begun++ < count) await create();
  };
  await Promise.all(Array.from({ length: Math.min(8, count) }, worker));
  return keys;
}

/** Sends batches of `event` until there are `count` of them. */
export async function seedEvents(address: string, key: string, event: string, count: number): Promise<void> {
  const perBatch = Math.min(count, 1_000);
  const batch = `[${Array.from({ length: perBatch }, () => event).join(',')}]`;
  for (let sent = 0; sent < count; sent += perBatch) await call(address, key, 'POST', '/v1/events/batch', batch);
}

/** The value of a metric without labels; null where there is none. */
export async function readMetrics(address: string, adminToken: string): Promise<(name: string) => number | null> {
  const text = await call(address, adminToken, 'GET', '/metrics');
  return (name) => {
    const value = new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1];
    return value === undefined ? null : Number(value);
  };
}
