import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Client, createOrg } from '../test/support/client.js';
import { adminToken, spawnNode } from '../test/support/node.js';
import type { EngineName } from '../test/support/storage.js';
import { createStorage } from '../test/support/storage.js';

/** Something that takes events over HTTP, in a process of its own. */
export interface Target {
  readonly name: string;
  readonly address: string;
  readonly key: string;
  stop(): Promise<void>;
}

export interface SluiceTarget extends Target {
  readonly admin: Client;
}

export async function startBareServer(): Promise<Target> {
  const script = fileURLToPath(new URL('bare-server.js', import.meta.url));
  const child = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
  return {
    name: 'bare node:http',
    address: line.slice(line.indexOf('http://')),
    key: 'none',
    async stop() {
      const ended = once(child, 'exit');
      child.kill();
      await ended;
    },
  };
}

/** Sluice with everything on, and an org whose rate limit is not what is measured. Null where the engine cannot be had. */
export async function startSluice(engine: EngineName): Promise<SluiceTarget | null> {
  const storage = await createStorage(engine);
  if (storage === null) return null;
  const node = await spawnNode(storage);
  const org = await createOrg(node.address);
  const limits = { rate_per_minute: 1_000_000_000, burst: 1_000_000_000 };
  const admin = new Client(node.address, adminToken);
  await admin.call('PATCH', `/v1/orgs/${org.id}`, { limits });
  return {
    name: `sluice, ${engine}`,
    address: node.address,
    key: org.key,
    admin,
    async stop() {
      await node.end('SIGTERM');
      await storage.remove();
    },
  };
}
