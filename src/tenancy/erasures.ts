import { hash, randomBytes } from 'node:crypto';
import type { Clock } from '../clock.js';
import type { Database } from '../db/database.js';
import { recordChanges } from '../db/sql/audit.js';
import type { ErasureCounts, ErasureRow } from '../db/sql/erasures.js';
import { countErasuresForRequest, extendErasure, findErasure, insertErasure } from '../db/sql/erasures.js';
import { readHead } from '../db/sql/subscriptions.js';
import { Problem } from '../errors.js';
import { encodeRandomId } from '../ids.js';

/** Erasures of an org that are under way at once. */
export const erasuresRunningMax = 100;
/** How long a certificate is kept, from the end of its erasure on. Migration 0006 holds the deletion to it. */
export const certificateDays = 365;

const dayMs = 86_400_000;

/** The erasure of a subject, and once it is done its certificate. */
export interface Erasure {
  readonly id: string;
  readonly isDone: boolean;
  readonly subjectHash: Buffer;
  readonly requestedAtMs: number;
  /** When it was asked for the last time: what was stored by then is erased, what comes later is not. */
  readonly coversUntilMs: number;
  readonly beganAtMs: number | null;
  readonly endedAtMs: number | null;
  readonly counts: ErasureCounts;
  /** By when the last dedup id of what was erased is deleted. */
  readonly dedupIdsUntilMs: number;
  readonly expiresAtMs: number | null;
}

/** What orgs ask to have erased. The work itself is `SubjectErasure`'s. */
export class Erasures {
  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    /** Called after a request, so that the work begins. */
    private readonly onRequest: () => void,
  ) {}

  /**
   * Has every event with this subject erased that is stored by now. While an erasure of the subject is under way, it is that one, which then goes on to the
   * end that the log has now. The audit log tells who asked (`actor`), without the subject. Throws `limit_reached` beyond `erasuresRunningMax`.
   */
  async request(org: string, subject: string, actor: string): Promise<Erasure> {
    const erasure = await this.database.transaction({ role: 'app', org }, async (tx) => {
      const running = await countErasuresForRequest(tx, org);
      const at = new Date(this.clock.now());
      const head = await readHead(tx, org);
      if (head === null) throw new Problem('invalid_key', 'The organisation of this key was deleted.');
      const end = { lastPosition: head.position, lastDay: head.day, at };
      const row = (await extendErasure(tx, org, subject, end)) ?? null;
      if (row === null && running >= erasuresRunningMax) throw tooMany();
      const id = encodeRandomId('ers', randomBytes(16));
      const subjectHash = hashSubject(id, subject);
      const asked = row ?? (await insertErasure(tx, org, { id, subject, subjectHash, ...end }));
      await recordChanges(tx, org, {
        atMs: at.getTime(),
        actor,
        action: 'subject.erasure_requested',
        target: asked.erasure,
        details: { subject_hash: asked.subject_hash.toString('hex') },
      });
      return asked;
    });
    this.onRequest();
    return toErasure(erasure);
  }

  /** Null if there is none of this id, or its certificate is no longer kept. */
  find(org: string, id: string): Promise<Erasure | null> {
    return this.database.transaction({ role: 'app', org, priority: 'read' }, async (tx) => {
      const row = await findErasure(tx, org, id);
      return row === null ? null : toErasure(row);
    });
  }
}

/** The id makes the hash of one subject another each time, so that two certificates do not tell that they are about the same. */
export function hashSubject(id: string, subject: string): Buffer {
  return hash('sha256', `${id} ${subject}`, 'buffer');
}

function tooMany(): Problem {
  const detail = `An organisation has at most ${erasuresRunningMax} erasures under way. Wait until one is done.`;
  return new Problem('limit_reached', detail);
}

function toErasure(row: ErasureRow): Erasure {
  const endedAtMs = row.ended_at?.getTime() ?? null;
  return {
    id: row.erasure,
    isDone: endedAtMs !== null,
    subjectHash: row.subject_hash,
    requestedAtMs: row.requested_at.getTime(),
    coversUntilMs: row.covers_until.getTime(),
    beganAtMs: row.began_at?.getTime() ?? null,
    endedAtMs,
    counts: row.counts,
    // Retention deletes those of the days before yesterday.
    dedupIdsUntilMs: (row.last_day + 2) * dayMs,
    expiresAtMs: endedAtMs === null ? null : endedAtMs + certificateDays * dayMs,
  };
}
