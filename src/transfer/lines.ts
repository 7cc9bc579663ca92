/** Rows as the lines of an export. The order of members is that of the format's schemas, and always the same. */
import type { DedupRow, FullEventRow, OrgState } from '../db/sql/transfer.js';
import type { DataKind, DataLine } from './format.js';
import { timeText } from './format.js';

/** An org but its log, from its line to its last dead letter. */
export function stateLines({ org, keys, head, subscriptions, leases, deadLetters }: OrgState): string[] {
  return [
    textOf<'org'>({
      line: 'org',
      org: org.org,
      name: org.name,
      tier: org.tier,
      rate_per_minute: org.rate_per_minute === null ? null : Number(org.rate_per_minute),
      burst: org.burst === null ? null : Number(org.burst),
      limit_mode: org.limit_mode,
      retention_days: org.retention_days,
      suspended: org.suspended,
      created_at: timeText(org.created_at),
    }),
    ...keys.map((key) =>
      textOf<'key'>({
        line: 'key',
        key_id: key.key_id,
        hash: key.hash.toString('hex'),
        name: key.name,
        prefix: key.prefix,
        scopes: key.scopes,
        created_at: timeText(key.created_at),
        expires_at: optionalTime(key.expires_at),
        retires_at: optionalTime(key.retires_at),
        last_used_at: optionalTime(key.last_used_at),
      }),
    ),
    textOf<'head'>({
      line: 'head',
      epoch: head.epoch,
      position: Number(head.position),
      day: head.day,
      received_at: timeText(head.received_at),
      first_position: Number(head.first_position),
      first_day: head.first_day,
    }),
    ...subscriptions.map((subscription) =>
      textOf<'subscription'>({
        line: 'subscription',
        subscription: subscription.subscription,
        kind: subscription.kind,
        name: subscription.name,
        max_attempts: subscription.max_attempts,
        cursor: Number(subscription.cursor),
        cursor_day: subscription.cursor_day,
        ahead: subscription.ahead,
        held: Number(subscription.held),
        dead: Number(subscription.dead),
        expired: Number(subscription.expired),
        erased: Number(subscription.erased),
        skipped: subscription.skipped,
        filters: subscription.filters.map(({ from, types }) => ({ from, types: types === null ? null : [...types] })),
        created_at: timeText(subscription.created_at),
      }),
    ),
    ...leases.map((lease) =>
      textOf<'lease'>({
        line: 'lease',
        subscription: lease.subscription,
        lease: lease.lease,
        attempt: lease.attempt,
        available_at: timeText(lease.available_at),
        positions: lease.positions,
        first_day: lease.first_day,
        last_day: lease.last_day,
        waiting: lease.waiting,
      }),
    ),
    ...deadLetters.map((dead) =>
      textOf<'dead_letter'>({
        line: 'dead_letter',
        subscription: dead.subscription,
        position: Number(dead.position),
        day: dead.day,
        attempts: dead.attempts,
        died_at: timeText(dead.died_at),
      }),
    ),
  ];
}

export function eventLine(event: FullEventRow): string {
  return textOf<'event'>({
    line: 'event',
    position: Number(event.position),
    epoch: event.epoch,
    day: event.day,
    type: event.type,
    subject: event.subject,
    occurred_at: optionalTime(event.occurred_at),
    received_at: timeText(event.received_at),
    attributes: event.attributes,
    payload: event.payload,
  });
}

export function dedupLine(dedup: DedupRow): string {
  return textOf<'dedup'>({
    line: 'dedup',
    dedup_id: dedup.dedup_id,
    epoch: dedup.epoch,
    position: Number(dedup.position),
    day: dedup.day,
    received_at: timeText(dedup.received_at),
    body_hash: dedup.body_hash.toString('hex'),
  });
}

function optionalTime(date: Date | null): string | null {
  return date === null ? null : timeText(date);
}

function textOf<Kind extends DataKind>(line: DataLine<Kind>): string {
  return JSON.stringify(line);
}
