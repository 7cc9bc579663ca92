import type { NewEvent } from '../event-log/new-event.js';
import type { Service } from '../lifecycle.js';
import { GroupCommit } from './group-commit.js';
import type { GroupCommitOptions, StoredOrRefused } from './group-commit.js';
import { QueueRoom } from './queue-room.js';

/**
 * Several group commits side by side, each org always in the same one, so that per org nothing overtakes anything. While one lane's batch waits for the
 * disk, or for a head that somebody holds, the others go on. The bytes that may wait are those of all lanes together.
 */
export class IngestLanes implements Service {
  readonly name = 'ingest lanes';
  readonly #lanes: readonly GroupCommit[];

  /** `lanes`: how many, at least one; as many batches may be under way at once as the database has connections for them. */
  constructor(lanes: number, options: Omit<GroupCommitOptions, 'room'>) {
    const room = new QueueRoom(options.queueBytesMax);
    this.#lanes = Array.from({ length: lanes }, () => new GroupCommit({ ...options, room }));
  }

  get waitingEvents(): number {
    return this.#lanes.reduce((sum, lane) => sum + lane.waitingEvents, 0);
  }

  get waitingBytes(): number {
    return this.#lanes.reduce((sum, lane) => sum + lane.waitingBytes, 0);
  }

  async start(): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => lane.start()));
  }

  /** As `GroupCommit.stop`, of all lanes. */
  async stop(): Promise<void> {
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

  #laneOf(org: string): GroupCommit {
    // The numbers of orgs are random, so they are their own hash. The database chooses a batch's connection alike.
    return this.#lanes[Number(org) % this.#lanes.length] as GroupCommit;
  }
}
