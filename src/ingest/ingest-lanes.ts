import type { NewEvent } from '../event-log/new-event.js';
import type { Service } from '../lifecycle.js';
import { GroupCommit } from './group-commit.js';
import type { GroupCommitOptions, StoredOrRefused } from './group-commit.js';
import { QueueRoom } from './queue-room.js';

export interface IngestLanesOptions extends Omit<GroupCommitOptions, 'room' | 'store' | 'onHeldUp' | 'onBatchEnd'> {
  /** As of `GroupCommit`, on the connection of this lane. */
  readonly store: (batch: readonly NewEvent[], lane: number) => Promise<readonly StoredOrRefused[]>;
}

/** For so long after a batch was held up, orgs are spread over the lanes: those that were in that batch may have met the same head again in the next. */
const spreadMs = 5_000;

/**
 * Several group commits side by side. The first does all the work while it can, since large batches cost the least for each event. Once a batch
 * waits for long, for a slow commit or for a head that somebody holds, the next lane takes over every org that has nothing in that batch; and for a while each org has
 * the lane of its number, if that is not held up. An org's events are never in two lanes at a time, so that none overtakes another. The bytes that may wait are
 * those of all lanes together.
 */
export class IngestLanes implements Service {
  readonly name = 'ingest lanes';
  readonly #options: IngestLanesOptions;
  readonly #lanes: readonly GroupCommit[];
  #spreadUntilMs = -Infinity;
  #stopped = false;

  /** `lanes`: how many, at least one; as many batches may be under way at once as the database has connections for them. */
  constructor(lanes: number, options: IngestLanesOptions) {
    this.#options = options;
    const room = new QueueRoom(options.queueBytesMax);
    this.#lanes = Array.from({ length: lanes }, (_, index) => {
      const store: GroupCommitOptions['store'] = (batch) => options.store(batch, index);
      const lane: GroupCommit = new GroupCommit({
        ...options,
        store,
        room,
        ...(lanes > 1 && { onHeldUp: () => this.#heldUp(lane), onBatchEnd: () => this.#batchEnded(lane) }),
      });
      return lane;
    });
  }

  get waitingEvents(): number {
    return this.#lanes.reduce((sum, lane) => sum + lane.waitingEvents, 0);
  }

  get waitingBytes(): number {
    return this.#lanes.reduce((sum, lane) => sum + lane.waitingBytes, 0);
  }

  async start(): Promise<void> {
    this.#stopped = false;
    await Promise.all(this.#lanes.map((lane) => lane.start()));
  }

  /** As `GroupCommit.stop`, of all lanes. From now on each keeps what waits in it. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#lanes.map((lane) => lane.stop()));
  }

  /** As `GroupCommit.add`. */
  add(event: NewEvent): Promise<StoredOrRefused> {
    return this.#laneOf(event.org).add(event);
  }

  /** As `GroupCommit.addAll`. */
  addAll(events: readonly NewEvent[], bodyBytes: number): Promise<readonly StoredOrRefused[]> {
    return this.#laneOf(events[0]?.org ?? '0').addAll(events, bodyBytes);
  }

  /**
   * The number of the lane for a transaction of this org that is in no queue here: the one that has events of the org, so that no other is held up with it
   * where the org's head is; else the last, since the first is always at work while events come in.
   */
  laneBeside(org: string): number {
    const holding = this.#lanes.findIndex((lane) => lane.holds(org));
    return holding === -1 ? this.#lanes.length - 1 : holding;
  }

  #laneOf(org: string): GroupCommit {
    const [first] = this.#lanes as [GroupCommit];
    if (this.#lanes.length === 1) return first;
    const usual = this.#isSpread ? this.#spreadLaneOf(org) : first;
    const holding = this.#lanes.find((lane) => lane.holds(org));
    return holding ?? (usual.isHeldUp ? (this.#lanes.find((lane) => !lane.isHeldUp) ?? usual) : usual);
  }

  get #isSpread(): boolean {
    return this.#options.clock.monotonic() < this.#spreadUntilMs;
  }

  #spreadLaneOf(org: string): GroupCommit {
    // The numbers of orgs are random, so they are their own hash.
    return this.#lanes[Number(org) % this.#lanes.length] as GroupCommit;
  }

  #heldUp(lane: GroupCommit): void {
    if (this.#stopped) return;
    this.#spreadUntilMs = this.#options.clock.monotonic() + spreadMs;
    const free = this.#lanes.find((other) => other !== lane && !other.isHeldUp);
    if (free !== undefined) lane.leaveTo(free);
  }

  #batchEnded(lane: GroupCommit): void {
    if (this.#stopped || !this.#isSpread) return;
    for (const other of this.#lanes) {
      if (other === lane) continue;
      if (other.isHeldUp) other.leaveTo(lane);
      else lane.leaveTo(other, (org) => this.#spreadLaneOf(org) === other);
    }
  }
}
