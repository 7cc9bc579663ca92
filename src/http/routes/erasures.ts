import type { ErasureTable } from '../../db/sql/erasures.js';
import { invalid, Problem } from '../../errors.js';
import { decodeRandomId } from '../../ids.js';
import { textCharsMax } from '../../ingest/envelope.js';
import type { Erasure, Erasures } from '../../tenancy/erasures.js';
import { isLongerThan, unstorable } from '../../text.js';
import { formatTime } from '../../time-format.js';
import { erasureDocs } from '../openapi/tenancy-docs.js';
import { forKeys, json } from '../route.js';

export interface ErasureRoutesOptions {
  readonly erasures: Erasures;
}

export function erasureRoutes({ erasures }: ErasureRoutesOptions) {
  return [
    forKeys({
      method: 'DELETE',
      path: '/v1/subjects/:subject',
      docs: erasureDocs.request,
      access: 'org:manage',
      bucket: 'read',
      handler: async ({ identity, params }) => {
        const erasure = await erasures.request(identity.org, subjectOf(params), identity.keyId);
        return json(202, erasureJson(erasure), { Location: `/v1/erasures/${erasure.id}` });
      },
    }),
    forKeys({
      method: 'GET',
      path: '/v1/erasures/:id',
      docs: erasureDocs.read,
      access: 'org:manage',
      bucket: 'read',
      handler: async ({ identity, params: { id = '' } }) => {
        const erasure = decodeRandomId('ers', id) === null ? null : await erasures.find(identity.org, id);
        if (erasure === null) throw new Problem('not_found', 'There is no such erasure.');
        return json(200, erasureJson(erasure));
      },
    }),
  ];
}

function subjectOf({ subject = '' }: Readonly<Record<string, string>>): string {
  // A path that ends here leads to this route, too.
  if (subject === '') throw new Problem('not_found', 'The path names no subject.');
  const problem = isLongerThan(subject, textCharsMax)
    ? `must have 1 to ${textCharsMax} characters`
    : unstorable(subject);
  if (problem !== null) throw invalid({ path: '{subject}', message: problem });
  return subject;
}

const dayMs = 86_400_000;
const dateOf = (day: number): string => new Date(day * dayMs).toISOString().slice(0, 10);

const timeOrNull = (ms: number | null): string | null => (ms === null ? null : formatTime(ms));

function erasureJson(erasure: Erasure) {
  const rows = (table: ErasureTable) => {
    const counted = erasure.counts[table];
    return {
      rows: counted?.rows ?? 0,
      first_day: counted === undefined ? null : dateOf(counted.first_day),
      last_day: counted === undefined ? null : dateOf(counted.last_day),
    };
  };
  return {
    id: erasure.id,
    status: erasure.isDone ? 'done' : 'running',
    subject_hash: erasure.subjectHash.toString('hex'),
    requested_at: formatTime(erasure.requestedAtMs),
    covers_until: formatTime(erasure.coversUntilMs),
    began_at: timeOrNull(erasure.beganAtMs),
    ended_at: timeOrNull(erasure.endedAtMs),
    erased: { events: rows('events'), leases: rows('leases'), dead_letters: rows('dead_letters') },
    kept: { dedup_ids_until: formatTime(erasure.dedupIdsUntilMs) },
    expires_at: timeOrNull(erasure.expiresAtMs),
  };
}
