/**
 * Three nodes behind one PgBouncer in transaction mode that has two connections to the server: every transaction may run on another session, which
 * another org's transaction has just left.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { openPostgres } from '../../src/db/postgres.js';
import type { PostgresDatabase, PostgresOptions } from '../../src/db/postgres.js';
import type { RunningServer } from '../../src/app.js';
import { Client, createOrg } from '../support/client.js';
import type { TestOrg } from '../support/client.js';
import { startNode } from '../support/node.js';
import { signal } from '../support/conformance.js';
import { pgbouncerTracks, startPgbouncer, withoutPgbouncer } from '../support/pgbouncer.js';
import type { Pgbouncer } from '../support/pgbouncer.js';
import { startOwnPostgresServer } from '../support/postgres-server.js';

const server = withoutPgbouncer === false ? await startOwnPostgresServer() : null;
const skip =
  withoutPgbouncer === false
    ? server === null && 'NOT TESTED: there is no PostgreSQL server on this machine'
    : withoutPgbouncer;
const nodeCount = 3;
const rounds = 40;

after(() => server?.stop());
describe('through PgBouncer in transaction mode that knows nothing of named statements', { skip }, () =>
  describeNodes(0),
);
describe(
  'through PgBouncer in transaction mode that keeps track of named statements',
  { skip: skip === false ? !pgbouncerTracks && 'PgBouncer does so from 1.21 on' : skip },
  () => describeNodes(200),
);

function describeNodes(preparedMax: number): void {
  if (server === null) return;
  const started: { stop(): Promise<void> }[] = [];
  const nodes: RunningServer[] = [];
  let bouncer: Pgbouncer;
  let orgs: TestOrg[];
  let url = '';
  let directUrl = '';
  before(async () => {
    directUrl = await server.createDatabase();
    const name = new URL(directUrl).pathname.slice(1);
    bouncer = await bounce({ poolSize: 2, mode: 'transaction', preparedMax });
    url = bouncer.url(name);
    // Two hear of each other's events through the server itself; the third only looks.
    for (const listenUrl of [directUrl, directUrl, null]) {
      const storage = {
        engine: 'postgres' as const,
        config: { dataDir: '', databaseUrl: url },
        remove: async () => {},
      };
      const node = await startNode(storage, { listenUrl });
      started.push(node);
      nodes.push(node);
    }
    orgs = [await createOrg(addressOf(0)), await createOrg(addressOf(1))];
  });
  after(async () => {
    for (const one of started.toReversed()) await one.stop();
  });

  const bounce = async (options: Parameters<typeof startPgbouncer>[1]): Promise<Pgbouncer> => {
    const made = await startPgbouncer(server.port, options);
    started.push(made);
    return made;
  };
  const addressOf = (node: number): string => nodes[node % nodeCount]?.address ?? '';
  const clientOf = (org: number, node: number): Client => new Client(addressOf(node), orgs[org]?.key ?? '');
  const open = async (options: Partial<PostgresOptions>, lines: string[] = []): Promise<PostgresDatabase> => {
    const onLog = (line: string): void => void lines.push(line);
    const database = await openPostgres({ url, clock: systemClock, onLog, ...options });
    started.push({ stop: () => database.close() });
    return database;
  };

  it('every event is stored once, whichever nodes it is sent to, and no org sees another’s', async () => {
    const ids: string[][] = [[], []];
    const send = async (round: number): Promise<void> => {
      for (const org of [0, 1]) {
        const event = { type: 'a', payload: { org, round }, dedup_id: `round ${round}` };
        const copies = await Promise.all([0, 1, 2].map((node) => clientOf(org, node).post('/v1/events', event)));
        assert.deepEqual(
          copies.map(({ status }) => status).toSorted((a, b) => a - b),
          [200, 200, 201],
        );
        const [id] = new Set(copies.map(({ json }) => json.id as string));
        assert.ok(copies.every(({ json }) => json.id === id && json.durability === 'fsync'));
        ids[org]?.push(id ?? '');
      }
    };
    await Promise.all(Array.from({ length: rounds }, (_, round) => send(round)));

    const look = async (round: number): Promise<void> => {
      for (const [org, other] of [
        [0, 1],
        [1, 0],
      ] as const) {
        const client = clientOf(org, round);
        const own = await client.get(`/v1/events/${ids[org]?.[round]}`);
        assert.equal(own.status, 200);
        assert.equal(own.json.payload.org, org);
        assert.equal((await client.get(`/v1/events/${ids[other]?.[round]}`)).status, 404);
      }
    };
    await Promise.all(Array.from({ length: rounds }, (_, round) => look(round)));

    for (const org of [0, 1]) {
      const received: string[] = [];
      while (received.length < rounds) {
        const client = clientOf(org, received.length);
        const { status, json } = await client.post('/v1/inbox/receive', { max: 7 });
        assert.equal(status, 200);
        const events = json.data as { id: string; payload: { org: number } }[];
        assert.ok(events.length > 0 && events.every(({ payload }) => payload.org === org));
        received.push(...events.map(({ id }) => id));
        const acked = await client.post('/v1/inbox/ack', { ids: events.map(({ id }) => id) });
        assert.equal(acked.status, 200);
      }
      assert.deepEqual(received.toSorted(), ids[org]?.toSorted());
      const { json } = await clientOf(org, 1).get('/v1/inbox/stats');
      assert.deepEqual([json.pending, json.leased], [0, 0]);
    }
  });

  it('every transaction has its time limits, and leaves nothing of them behind', async () => {
    const database = await open({});
    const names = ['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'jit'];
    const text = `SELECT ${names.map((name) => `current_setting('${name}') AS ${name}`).join(', ')}`;
    const scope = { role: 'owner', priority: 'read' } as const;
    for (let i = 0; i < 5; i++) {
      const { rows } = await database.query(scope, { name: 'test_limits', text });
      assert.deepEqual(rows, [
        { statement_timeout: '10s', lock_timeout: '1s', idle_in_transaction_session_timeout: '3s', jit: 'off' },
      ]);
    }
    // In the middle of a transaction the role and the org are set; in another client's next one on the same session they are not.
    const stranger = await open({});
    const left = `SELECT current_user AS role, COALESCE(current_setting('sluice.org', true), '') AS org`;
    for (let i = 0; i < 10; i++) {
      await database.query({ role: 'app', org: '42' }, { name: 'test_set', text: left });
      const { rows } = await stranger.query({ role: 'owner' }, { name: 'test_left', text: left });
      assert.deepEqual(rows, [{ role: 'sluice', org: '' }]);
    }
  });

  it('notifications come over an address without a pooler, and where there is none the start says so', async () => {
    const heard = signal<string>();
    const listening = await open({ listenUrl: directUrl });
    await listening.listen('news', heard.fire);
    await notify(listening, 'once');
    assert.equal(await heard.promise, 'once');

    const lines: string[] = [];
    const deaf = await open({}, lines);
    assert.match(lines.join('\n'), /^WARNING: .*SLUICE_LISTEN_URL is not set: .* every 5 s/);
    await (
      await deaf.listen('news', () => assert.fail('it cannot hear'))
    )();
    const pooled = await open({ listenUrl: url });
    await assert.rejects(
      pooled.listen('news', () => {}),
      /SLUICE_LISTEN_URL leads to a pooler/,
    );
  });

  it('statements have names only where the pooler keeps track of them', async () => {
    const database = await open({});
    const scope = { role: 'owner', priority: 'read' } as const;
    const text = `SELECT name FROM pg_prepared_statements WHERE statement LIKE '%test of ' || 'names%' /* test of names */`;
    for (let i = 0; i < 3; i++) {
      const { rows } = await database.query<{ name: string }>(scope, { name: 'test_names', text });
      if (preparedMax === 0) assert.deepEqual(rows, []);
      else assert.match(rows[0]?.name ?? '', /^PGBOUNCER_/);
    }
  });

  it('a pooler that keeps each client its session does, too', async () => {
    const name = new URL(directUrl).pathname.slice(1);
    const faithful = await bounce({ poolSize: 20, mode: 'session', preparedMax });
    const database = await open({ url: faithful.url(name) });
    const { rows } = await database.query<{ sum: number }>(
      { role: 'owner' },
      { name: 'test_sum', text: 'SELECT $1::int + 1 AS sum' },
      [1],
    );
    assert.equal(rows[0]?.sum, 2);
  });
}

function notify(database: Database, payload: string): Promise<unknown> {
  return database.query({ role: 'owner' }, { name: 'test_notify', text: `SELECT pg_notify('news', $1)` }, [payload]);
}
