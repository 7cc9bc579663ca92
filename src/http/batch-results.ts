/** What became of each event of a batch, in words for its sender. */
import { Problem } from '../errors.js';
import { encodeEventId } from '../event-log/event-id.js';
import type { BatchItem } from '../ingest/batch-body.js';
import type { StoredOrRefused } from '../ingest/group-commit.js';
import { dedupMismatch, orgGone } from '../ingest/refusals.js';
import { formatTime } from '../time-format.js';
import type { Reply } from './route.js';

/**
 * The reply to a batch. `stored` are the outcomes of those items that are events, in their order. Throws `invalid_key` if the org is gone, since
 * that holds for all.
 */
export function replyOf(org: string, items: readonly BatchItem[], stored: readonly StoredOrRefused[]): Reply {
  const results: string[] = [];
  let accepted = 0;
  let duplicates = 0;
  let next = 0;
  for (const item of items) {
    const outcome = item instanceof Problem ? { refused: item } : (stored[next++] ?? { refused: unknownOutcome });
    if ('refused' in outcome) {
      results.push(JSON.stringify(refusal(outcome.refused)));
      continue;
    }
    const { appended, durability } = outcome;
    if (appended.kind === 'org_unknown') throw orgGone();
    if (appended.kind === 'dedup_mismatch') {
      results.push(JSON.stringify(refusal(dedupMismatch())));
      continue;
    }
    const duplicate = appended.kind === 'duplicate';
    if (duplicate) duplicates++;
    else accepted++;
    const { place } = appended;
    const id = encodeEventId({ org, epoch: place.epoch, position: place.position, day: place.day });
    // Nothing in it needs an escape.
    results.push(
      `{"status":${duplicate ? 200 : 201},"id":"${id}","received_at":"${formatTime(place.receivedAtMs)}","durability":"${durability}","duplicate":${duplicate}}`,
    );
  }
  const rejected = items.length - accepted - duplicates;
  const counts = `"accepted":${accepted},"duplicates":${duplicates},"rejected":${rejected}`;
  return { status: 200, body: `{${counts},"results":[${results.join(',')}]}` };
}

/** The refusal of an atomic batch: of each event its own. */
export function refusedBatch(refused: readonly Problem[]): Problem {
  const toBlame = refused.filter(({ code }) => code !== 'not_stored').length;
  const detail = `Nothing was stored: ${toBlame} of ${refused.length} events cannot be, and the batch is atomic. See results.`;
  return new Problem('validation_failed', detail, { members: { results: refused.map(refusal) } });
}

function refusal(problem: Problem): Readonly<Record<string, unknown>> {
  // An event has no 500 of its own. After a fault of the server nobody can say whether it was stored.
  const { status, code, detail, errors } = problem.code === 'internal' ? unknownOutcome : problem;
  return { status, code, detail, ...(errors === undefined ? {} : { errors }) };
}

const unknownOutcome = new Problem(
  'outcome_unknown',
  'A fault of the server; the event may be stored or not. Send it again with a dedup_id, or risk a second event.',
);
