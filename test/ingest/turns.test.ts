import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import type { NewEvent } from '../../src/event-log/new-event.js';
import { IngestLanes } from '../../src/ingest/ingest-lanes.js';
import type { StoredOrRefused } from '../../src/ingest/group-commit.js';
import { newEvent } from '../support/event-log.js';
import { TestClock } from '../support/test-clock.js';

const queued = 500;
/** Requests of one org in a batch, when others use the node too and a commit takes no time to speak of. */
const turn = 15;

/** How many events of `org` the largest of the next batches holds, when many of it wait. */
class Flooded {
  readonly #clock = new TestClock();
  readonly #lanes: IngestLanes;
  #sizes: number[] = [];

  constructor(commitMs: number, lanes = 1) {
    const store = async (batch: readonly NewEvent[]): Promise<StoredOrRefused[]> => {
      this.#sizes.push(batch.filter(({ org }) => org === '1').length);
      await new Promise((resume) => setImmediate(resume));
      this.#clock.advance(commitMs);
      const place = { epoch: 1, position: 1, day: 20_000, receivedAtMs: 0 };
      return batch.map(() => ({ appended: { kind: 'stored', place }, durability: 'fsync' }) as const);
    };
    const limits = {
      batchEventsMax: () => 1_000,
      batchBytesMax: 2 ** 30,
      queueBytesMax: 2 ** 30,
      queueAgeMsMax: 60_000,
    };
    this.#lanes = new IngestLanes(lanes, { clock: this.#clock, store, ...limits });
  }

  advance(ms: number): void {
    this.#clock.advance(ms);
  }

  async largestBatch(): Promise<number> {
    this.#sizes = [];
    await Promise.all(Array.from({ length: queued }, () => this.#lanes.add(newEvent('1', '0'))));
    return Math.max(...this.#sizes);
  }

  async single(org: string): Promise<void> {
    await this.#lanes.add(newEvent(org, '0'));
  }

  stop(): Promise<void> {
    return this.#lanes.stop();
  }
}

/** What is left of a turn counts in the next. */
function assertTurns(events: number, turns: number): void {
  assert.ok(events >= turns * turn && events <= turns * (turn + 1), `${events} events in ${turns} turns`);
}

describe('a batch', () => {
  const all: Flooded[] = [];
  const flooded = (...args: ConstructorParameters<typeof Flooded>): Flooded => {
    const one = new Flooded(...args);
    all.push(one);
    return one;
  };
  after(() => Promise.all(all.map((one) => one.stop())));

  it('holds all that waits where one org is alone, from the first on', async () => {
    const one = flooded(2);
    assert.equal(await one.largestBatch(), queued);
    assert.equal(await one.largestBatch(), queued);
  });

  it('holds one turn of an org while another sends, and all again soon after', async () => {
    const one = flooded(0);
    await one.single('1');
    await one.single('2');
    assertTurns(await one.largestBatch(), 1);
    one.advance(2_001);
    assert.equal(await one.largestBatch(), queued);
  });

  it('holds one turn also where the other org is in another lane', async () => {
    const one = flooded(0, 2);
    await one.single('1');
    await one.single('2');
    assertTurns(await one.largestBatch(), 1);
  });

  it('holds more turns where a commit takes longer, beside which they are little', async () => {
    for (const [commitMs, turns] of [
      [4, 1],
      [20, 4],
      [100, 20],
    ] as const) {
      const one = flooded(commitMs);
      await one.single('1');
      await one.single('2');
      assertTurns(await one.largestBatch(), turns);
    }
  });
});
