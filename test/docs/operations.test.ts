import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { sluice } from '../cli/sluice.js';
import { Client as PgClient } from 'pg';
import { flagOf, laterSettings, settings } from '../../src/settings.js';
import { Client, createOrg } from '../support/client.js';
import { documentPath, tableRows } from '../support/document.js';
import { startNode } from '../support/node.js';
import { createStorage, stopServers } from '../support/storage.js';

after(stopServers);

const path = documentPath('operations.md');
const text = readFileSync(path, 'utf8');
const [documentedMetrics = []] = tableRows(readFileSync(documentPath('metrics.md'), 'utf8'));

/** Names in `given` that are not in `known`. */
const unknown = (given: Iterable<string>, known: readonly string[]): string[] =>
  [...new Set(given)].filter((name) => !known.includes(name));

const found = (pattern: RegExp): string[] => Array.from(text.matchAll(pattern), ([name]) => name);

test('every metric that is to be watched is one of the document of metrics', () => {
  const known = documentedMetrics.map(([name = '']) => name.replaceAll('`', ''));
  const roles = ['sluice_ingest', 'sluice_app', 'sluice_system', 'sluice_erasure'];
  const named = found(/\bsluice_[a-z_]+/g);
  assert.ok(named.length > 8, 'it names some');
  assert.deepEqual(unknown(named, [...known, ...roles]), []);
  assert.deepEqual(unknown(['sluice_no_such_thing'], known), ['sluice_no_such_thing']);
});

test('every setting that it names is one of the program', () => {
  const known = [...Object.values(settings), ...laterSettings].map(({ variable }) => variable);
  assert.deepEqual(unknown(found(/\b(?:SLUICE_[A-Z_]+|DATABASE_URL|REDIS_URL)\b/g), known), []);
  const flags = [...known.map(flagOf), 'dry-run', 'print-roles'].map((flag) => `--${flag}`);
  assert.deepEqual(unknown(found(/(?<=[` ])--[a-z][a-z-]+/g), flags), []);
});

test('every link leads to a file that is there, and to a heading that it has', () => {
  const links = Array.from(text.matchAll(/\]\(([^)#]*)(?:#([^)]+))?\)/g), ([, file = '', anchor]) => ({
    file,
    anchor,
  }));
  assert.ok(links.length >= 3);
  for (const { file, anchor } of links) {
    const target = file === '' ? path : join(dirname(path), file);
    assert.ok(existsSync(target), file);
    if (anchor === undefined) continue;
    const headings = Array.from(readFileSync(target, 'utf8').matchAll(/^#+ (.+)$/gm), ([, heading = '']) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\w -]/g, '')
        .replaceAll(' ', '-'),
    );
    assert.ok(headings.includes(anchor), `${file}#${anchor}`);
  }
});

/** The SQL that stands below a heading. */
function sqlBelow(heading: string): string {
  const section = text.slice(text.indexOf(`\n${heading}\n`));
  return /```sql\n([^]*?)```/.exec(section)?.[1] ?? '';
}

async function withServer(url: string, work: (client: PgClient) => Promise<unknown>): Promise<void> {
  const client = new PgClient(url);
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}

for (const isRaised of [true, false]) {
  const promise = isRaised
    ? 'after rows were put back by hand and `sluice restored`, no id is given out a second time'
    : 'after rows were put back by hand without that, an id is given out a second time, so that the test above can fail';
  test(promise, async (t) => {
    const storage = await createStorage('postgres');
    if (storage === null) return t.skip('no PostgreSQL on this machine');
    const databaseUrl = storage.config.databaseUrl ?? '';
    const node = await startNode(storage);
    t.after(() => node.stop());
    const { client, key } = await createOrg(node.address);
    const send = async (to: Client, payload: number): Promise<string> => {
      const { status, json, text: reply } = await to.post('/v1/events', { type: 'a', payload });
      assert.equal(status, 201, reply);
      return json.id;
    };
    const kept = await send(client, 1);
    // What a restore to this moment would bring back.
    await withServer(databaseUrl, (server) => server.query('CREATE TABLE kept_heads AS SELECT * FROM heads'));
    const lost = await send(client, 2);
    await node.stop();
    await withServer(databaseUrl, async (server) => {
      await server.query(`
        DELETE FROM events WHERE position > (SELECT k.position FROM kept_heads AS k WHERE k.org = events.org);
        UPDATE heads SET position = k.position, day = k.day, received_at = k.received_at FROM kept_heads AS k WHERE k.org = heads.org`);
    });
    if (isRaised) {
      const said = await sluice(['restored', '--log-level', 'silent'], { environment: { DATABASE_URL: databaseUrl } });
      assert.deepEqual([said.code, said.stdout], [0, ''], said.stderr);
      assert.match(said.stderr, /The next event of each of 1 org begins a new epoch/);
    }
    const again = await startNode(storage);
    t.after(() => again.stop());
    const later = new Client(again.address, key);
    const renewed = await send(later, 3);
    assert.equal(renewed === lost, !isRaised);
    assert.equal((await later.get(`/v1/events/${lost}`)).status, isRaised ? 404 : 200);
    assert.equal((await later.get(`/v1/events/${kept}`)).status, 200);
    const received = await later.post('/v1/inbox/receive', {});
    assert.deepEqual(
      received.json.data.map(({ id }: { id: string }) => id),
      [kept, renewed],
    );
  });
}

test('PostgreSQL takes what is advised for autovacuum', async (t) => {
  const storage = await createStorage('postgres');
  if (storage === null) return t.skip('no PostgreSQL on this machine');
  const node = await startNode(storage);
  await node.stop();
  await withServer(storage.config.databaseUrl ?? '', (server) => server.query(sqlBelow('### Settings that matter')));
});
