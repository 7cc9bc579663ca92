/** `npm run bench -- --micro`: the functions that every event goes through, alone. */
import { TokenBucket } from '../src/admission/token-bucket.js';
import { encodeCopyRows } from '../src/db/copy-binary.js';
import type { CopyValue } from '../src/db/copy-binary.js';
import { eventCopyColumns } from '../src/db/sql/events.js';
import { decodeEventId, encodeEventId } from '../src/event-log/event-id.js';
import type { EventAddress } from '../src/event-log/event-id.js';
import { scanObject } from '../src/ingest/json-scanner.js';
import { ofSorted, short } from './numbers.js';
import { say } from './say.js';
import { eventOf } from './scenarios.js';

interface Micro {
  readonly name: string;
  /** Events that one call stands for. */
  readonly events: number;
  /** Returns something of its work, so that none of it can be left out. */
  readonly run: (turn: number) => number;
}

const roundMs = 20;
const rounds = 25;

/** A table of Markdown: nanoseconds an event, the fastest round and the middle one. Rounds of all functions take turns. */
export function measureMicro(): string {
  const micros = all();
  let kept = 0;
  const calls = micros.map(({ run }) => {
    // As many calls as a round takes, counted once the function is compiled.
    let count = 0;
    const untilMs = performance.now() + 10 * roundMs;
    while (performance.now() < untilMs) for (let i = 0; i < 16; i++) kept += run(count++);
    return Math.max(1, Math.floor(count / 10));
  });
  const took = micros.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [i, { run, events }] of micros.entries()) {
      const startedAtMs = performance.now();
      for (let call = 0; call < calls[i]!; call++) kept += run(call);
      took[i]!.push(((performance.now() - startedAtMs) * 1e6) / (calls[i]! * events));
    }
    if (round % 5 === 4) say(`round ${round + 1} of ${rounds}`);
  }
  const rows = micros.map(({ name }, i) => {
    const sorted = took[i]!.toSorted((a, b) => a - b);
    return `| ${name} | ${short(sorted[0])} | ${short(ofSorted(sorted, 0.5))} |`;
  });
  if (Number.isNaN(kept)) throw new Error('a function measured here returned no number');
  return ['| | ns an event, fastest round | median round |', '|---|---:|---:|', ...rows].join('\n');
}

function all(): Micro[] {
  return [
    ...[100, 300, 4_096, 102_400].map((bytes) => scan(`scan for the payload, body of ${bytes} bytes`, eventOf(bytes))),
    scan('scan for the payload, 300 bytes, not ASCII', eventOf(300).replace('12345', 'äöü')),
    ...[1, 100, 1_000].map((count) => copy(count)),
    ...idCodec(),
    bucket(),
  ];
}

function scan(name: string, body: string): Micro {
  const bytes = Buffer.from(body);
  return { name, events: 1, run: () => scanObject(bytes, body).length };
}

function copy(count: number): Micro {
  const payload = Buffer.from(`"${'x'.repeat(265)}"`);
  const rows = Array.from({ length: count }, (_, i): CopyValue[] => {
    const place = ['123456789012345', 1, i + 1, 20_780];
    return [...place, 'user.created', null, null, 1_795_000_000_000, null, payload];
  });
  const name = `binary COPY of ${count} ${count === 1 ? 'row' : 'rows'} of 300 bytes`;
  return { name, events: count, run: () => encodeCopyRows(eventCopyColumns, rows).length };
}

function idCodec(): Micro[] {
  const ids = Array.from({ length: 1_000 }, (_, turn) => encodeEventId(addressOf(turn)));
  return [
    { name: 'event id, written', events: 1, run: (turn) => encodeEventId(addressOf(turn)).length },
    { name: 'event id, read', events: 1, run: (turn) => decodeEventId(ids[turn % ids.length] ?? '')?.position ?? NaN },
  ];
}

function addressOf(turn: number): EventAddress {
  return { org: '123456789012345', epoch: 1, position: 1 + (turn % 1_000_000), day: 20_780 };
}

function bucket(): Micro {
  const rate = { ratePerMinute: 60_000_000, burst: 1_000_000 };
  const tokens = new TokenBucket(rate, 0);
  return { name: 'token bucket, one decision', events: 1, run: (turn) => tokens.take(rate, 1, turn / 1000).remaining };
}
