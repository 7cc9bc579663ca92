/** What can be measured: how each load looks, on how many orgs, and who else can be asked the same. */
import { seededRandom } from './numbers.js';
import type { Plan, Request } from './plan.js';
import { leasePlace, uniquePlace } from './plan.js';

export interface Scenario {
  readonly name: string;
  readonly what: string;
  /** Of an event's whole body. */
  readonly bytes: number;
  /** Of one request; 0 where requests store nothing. */
  readonly eventsPerRequest: number;
  /** The bare servers and the raw writers take part: the load is nothing but events that come in. */
  readonly isIngest: boolean;
  readonly orgs: number;
  /** Stored before, in the first org. */
  readonly seedEvents: number;
  /** With more of them requests would be refused, as they should be: a queue is full, or reads would wait too long. */
  readonly connectionsMax: number;
  /** So that a round does not fill the disk. */
  readonly secondsMax: number;
  /** `run` makes dedup ids differ from those of every other round. */
  readonly plan: (keys: readonly string[], run: string) => Plan;
}

const json = 'application/json';
const receiveMax = 100;

export const scenarios: readonly Scenario[] = [
  ingest('single', 'one event a request', 300, (bytes) => single(eventOf(bytes))),
  ingest('dedup', 'one event a request, each with a dedup id of its own', 300, (bytes, run) =>
    single(eventOf(bytes, `"dedup_id":"${run}-${uniquePlace}",`)),
  ),
  batch('batch-100', 'JSON arrays of 100 events', 100, json),
  batch('batch-1000', 'JSON arrays of 1,000 events', 1000, json),
  batch('ndjson-100', 'NDJSON of 100 events', 100, 'application/x-ndjson'),
  {
    ...base('receive-ack', `receive ${receiveMax} events, acknowledge the lease`, 300),
    seedEvents: 100_000,
    connectionsMax: 8,
    plan: (keys) => ({
      keys,
      cycle: [],
      consume: {
        receive: post('/v1/inbox/receive', `{"max":${receiveMax}}`),
        ack: post('/v1/inbox/ack', `{"lease_id":"${leasePlace}"}`),
        again: post('/v1/inbox/seek', '{"to":"beginning"}'),
      },
    }),
  },
  {
    ...base('list', 'the newest 50 events of a log of 10,000', 300),
    seedEvents: 10_000,
    connectionsMax: 8,
    plan: (keys) => ({ keys, cycle: [listing] }),
  },
  {
    ...base('mixed', 'of ten requests eight events, one batch of 100, one list', 300),
    seedEvents: 10_000,
    eventsPerRequest: 10.8,
    plan: (keys) => {
      const one = single(eventOf(300));
      return { keys, cycle: [one, one, one, one, batchOf(300, 100, json), one, one, one, one, listing] };
    },
  },
  {
    ...ingest('orgs-10000', 'one event a request, from 10,000 orgs in turns', 300, (bytes) => single(eventOf(bytes))),
    orgs: 10_000,
  },
  ingest('payload-100', 'one event of 100 bytes a request', 100, (bytes) => single(eventOf(bytes))),
  ingest('payload-4k', 'one event of 4 KB a request', 4_096, (bytes) => single(eventOf(bytes))),
  {
    ...ingest('payload-100k', 'one event of 100 KB a request', 102_400, (bytes) => single(eventOf(bytes))),
    secondsMax: 2,
  },
];

export const scenariosByDefault = 'single,batch-100';

/** The scenarios of a list such as `single,list`. Throws with the names there are for one that there is not. */
export function chosenScenarios(names: string): Scenario[] {
  return names.split(',').map((name) => {
    const found = scenarios.find((scenario) => scenario.name === name);
    if (found !== undefined) return found;
    throw new Error(`no scenario "${name}"; there are ${scenarios.map((scenario) => scenario.name).join(', ')}`);
  });
}

/** An event whose whole body has this many bytes, with `member` in it. */
export function eventOf(bytes: number, member = ''): string {
  const start = `{"type":"user.created",${member}"payload":{"user_id":"12345","text":"`;
  const end = '"}}';
  return start + paddingOf(bytes - start.length - end.length) + end;
}

/** Letters and digits that no engine can compress, the same in every run: what is written is then as large as what is sent. */
export function paddingOf(chars: number): string {
  const random = seededRandom(7);
  return Array.from({ length: Math.max(0, chars) }, () => Math.floor(random() * 36).toString(36)).join('');
}

const listing: Request = { method: 'GET', path: '/v1/events', events: 0 };

function base(name: string, what: string, bytes: number): Omit<Scenario, 'plan'> {
  const limits = { orgs: 1, seedEvents: 0, connectionsMax: 10_000, secondsMax: 600 };
  return { name, what, bytes, eventsPerRequest: 0, isIngest: false, ...limits };
}

function ingest(
  name: string,
  what: string,
  bytes: number,
  request: (bytes: number, run: string) => Request,
  eventsPerRequest = 1,
): Scenario {
  const plan: Scenario['plan'] = (keys, run) => ({ keys, cycle: [request(bytes, run)] });
  return { ...base(name, what, bytes), eventsPerRequest, isIngest: true, plan };
}

function batch(name: string, what: string, count: number, contentType: string): Scenario {
  const scenario = ingest(name, what, 300, (bytes) => batchOf(bytes, count, contentType), count);
  return { ...scenario, connectionsMax: Math.max(4, Math.floor(2_000 / count)) };
}

function batchOf(bytes: number, count: number, contentType: string): Request {
  const events = Array.from({ length: count }, () => eventOf(bytes));
  const body = contentType === json ? `[${events.join(',')}]` : `${events.join('\n')}\n`;
  return { method: 'POST', path: '/v1/events/batch', contentType, body, events: count };
}

function single(body: string): Request {
  return { method: 'POST', path: '/v1/events', contentType: json, body, events: 1 };
}

function post(path: string, body: string): Request {
  return { method: 'POST', path, contentType: json, body, events: 0 };
}
