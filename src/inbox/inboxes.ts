import { randomInt } from 'node:crypto';
import type { AuditDetails } from '../audit-chain.js';
import type { Clock } from '../clock.js';
import type { Database, Transaction } from '../db/database.js';
import { recordChanges } from '../db/sql/audit.js';
import type { InboxRow } from '../db/sql/inboxes.js';
import * as sql from '../db/sql/inboxes.js';
import type { FilterVersion } from '../db/sql/subscriptions.js';
import { readHead } from '../db/sql/subscriptions.js';
import { invalid, Problem } from '../errors.js';
import { typeFilterOf } from '../subscriptions/filter.js';
import { PositionSet } from '../subscriptions/position-set.js';
import type { SeekTarget } from '../subscriptions/seek.js';
import { resolveTarget } from '../subscriptions/seek.js';

/** Of one org, `default` included. */
export const inboxesMax = 100;
/** How often an inbox's types may be changed while events of before are stored, and what all these versions may take together. */
export const filterVersionsMax = 100;
export const filterBytesMax = 65_536;
/** Rows that one transaction of a deletion takes: a large inbox goes in several, between which others get their turn. */
const deletedRowsMax = 5_000;
const numberTries = 5;
export const defaultInboxName = 'default';
/** 1 to `inboxNameCharsMax` characters, of which the first is a letter. */
export const inboxNameCharsMax = 64;
export const inboxNamePattern = `^[a-z][a-z0-9_-]{0,${inboxNameCharsMax - 1}}$`;
const nameExpression = new RegExp(inboxNamePattern);
/** An address can hold any text, also such that no database takes. */
const isName = (text: string): boolean => nameExpression.test(text);

export interface InboxSpec {
  readonly name: string;
  /** Patterns; null: all. */
  readonly types: readonly string[] | null;
  readonly start: SeekTarget;
  readonly maxAttempts: number;
}

export interface InboxInfo {
  readonly subscription: number;
  readonly name: string;
  /** What it wants of events stored from now on. */
  readonly types: readonly string[] | null;
  readonly maxAttempts: number;
  /** How many of its events fell out of retention before they were done. */
  readonly expired: number;
  /** And how many were erased before that (docs/erasure.md). */
  readonly erased: number;
  readonly createdAtMs: number;
}

/** The inboxes of orgs: what there is, not what is in them. The audit log tells which key (`actor`) changed one. */
export class Inboxes {
  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    /** An inbox is gone: who waits for its events, on any node, is told so. */
    private readonly onDeleted: (org: string) => void = () => {},
  ) {}

  /** Throws `name_taken`, `limit_reached` beyond `inboxesMax` or `filterBytesMax`, `not_found` for a start that is no event. */
  create(org: string, spec: InboxSpec, actor: string): Promise<InboxInfo> {
    return this.database.transaction({ role: 'app', org }, async (tx) => {
      const inboxes = await sql.countInboxesForCreation(tx, org);
      if ((await sql.findInbox(tx, org, spec.name)) !== null) throw nameTaken(spec.name);
      if (inboxes >= inboxesMax) {
        throw new Problem(
          'limit_reached',
          `An organisation has at most ${inboxesMax} inboxes. Delete one that is not used.`,
        );
      }
      const head = await readHead(tx, org);
      if (head === null) throw noInbox();
      const start = await resolveTarget(tx, org, head, spec.start);
      if (start === null) throw new Problem('not_found', 'There is no such event to start at.');
      const filters = spec.types === null ? [] : [{ from: 1, types: spec.types }];
      requireSmall(filters);
      const row = await this.#insert(tx, org, {
        name: spec.name,
        maxAttempts: spec.maxAttempts,
        cursor: start.position - 1,
        cursorDay: start.day,
        skipped: PositionSet.range(1, start.position).toString(),
        filters,
        createdAt: new Date(this.clock.now()),
      });
      const { types, maxAttempts: attempts } = spec;
      await this.#record(tx, org, actor, 'inbox.created', spec.name, { types, max_attempts: attempts });
      return toInfo(row);
    });
  }

  async #insert(tx: Transaction, org: string, inbox: Omit<sql.NewInbox, 'subscription'>): Promise<InboxRow> {
    for (let i = 0; i < numberTries; i++) {
      // Random, so that the number of a deleted inbox does not come back.
      const row = await sql.insertInbox(tx, org, { ...inbox, subscription: randomInt(1, 2 ** 31 - 1) });
      if (row !== null) return row;
    }
    throw new Error(`no free number for an inbox in ${numberTries} tries`);
  }

  async list(org: string, afterName: string, limit: number): Promise<InboxInfo[]> {
    const scope = { role: 'app', org, priority: 'read' } as const;
    const rows = await this.database.transaction(scope, (tx) => sql.listInboxes(tx, org, afterName, limit));
    return rows.map(toInfo);
  }

  /** Null if there is none of this name. */
  async find(org: string, name: string): Promise<InboxInfo | null> {
    if (!isName(name)) return null;
    const scope = { role: 'app', org, priority: 'read' } as const;
    const single: Pick<Transaction, 'query'> = {
      query: (statement, values) => this.database.query(scope, statement, values),
    };
    const row = await sql.findInbox(single, org, name);
    return row === null ? null : toInfo(row);
  }

  /**
   * Changes the attempts, or which types are wanted of the events stored from now on. Null if there is none of this name. Throws `limit_reached`
   * beyond `filterVersionsMax` or `filterBytesMax`.
   */
  async change(
    org: string,
    name: string,
    change: { readonly types?: readonly string[] | null; readonly maxAttempts?: number },
    actor: string,
  ): Promise<InboxInfo | null> {
    if (!isName(name)) return null;
    return this.database.transaction({ role: 'app', org }, async (tx) => {
      const row = await sql.lockInbox(tx, org, name);
      const head = await readHead(tx, org);
      if (row === null || head === null) return null;
      const filters =
        change.types === undefined
          ? row.filters
          : withVersion(row.filters, { from: head.position + 1, types: change.types }, head.firstPosition);
      requireSmall(filters);
      const maxAttempts = change.maxAttempts ?? row.max_attempts;
      if (filters === row.filters && maxAttempts === row.max_attempts) return toInfo(row);
      const changed = await sql.updateInbox(tx, org, row.subscription, { maxAttempts, filters });
      const details = { types: change.types, max_attempts: change.maxAttempts };
      const given = Object.fromEntries(Object.entries(details).filter(([, value]) => value !== undefined));
      await this.#record(tx, org, actor, 'inbox.changed', name, given as AuditDetails);
      return toInfo(changed);
    });
  }

  /** False if there is none of this name. Throws `validation_failed` for the inbox that every org keeps. */
  async delete(org: string, name: string, actor: string): Promise<boolean> {
    if (name === defaultInboxName) {
      throw invalid({ path: '/name', message: 'the inbox "default" cannot be deleted' });
    }
    if (!isName(name)) return false;
    for (;;) {
      const outcome = await this.database.transaction({ role: 'app', org }, async (tx) => {
        const row = await sql.lockInbox(tx, org, name);
        if (row === null) return 'unknown';
        const isGone = await sql.deleteInboxRows(tx, org, row.subscription, deletedRowsMax);
        if (isGone) await this.#record(tx, org, actor, 'inbox.deleted', name, {});
        return isGone ? 'gone' : 'more';
      });
      if (outcome === 'gone') this.onDeleted(org);
      if (outcome !== 'more') return outcome === 'gone';
    }
  }

  async #record(
    tx: Transaction,
    org: string,
    actor: string,
    action: string,
    target: string,
    details: AuditDetails,
  ): Promise<void> {
    await recordChanges(tx, org, { atMs: this.clock.now(), actor, action, target, details });
  }
}

/** Adds a version, if it is another, and forgets those of which no event is stored any more. */
function withVersion(
  filters: readonly FilterVersion[],
  version: FilterVersion,
  firstPosition: number,
): readonly FilterVersion[] {
  if (isSame(filters.at(-1)?.types ?? null, version.types)) return filters;
  const kept = filters.filter(({ from }, i) => {
    const next = filters[i + 1]?.from ?? version.from;
    return from !== version.from && next > firstPosition;
  });
  if (kept.length >= filterVersionsMax) {
    const detail = `The types of this inbox were changed ${filterVersionsMax} times while events of before are stored. Make a new inbox.`;
    throw new Problem('limit_reached', detail);
  }
  return [...kept, version];
}

function isSame(before: readonly string[] | null, now: readonly string[] | null): boolean {
  return JSON.stringify(typeFilterOf(before)) === JSON.stringify(typeFilterOf(now));
}

function requireSmall(filters: readonly FilterVersion[]): void {
  if (Buffer.byteLength(JSON.stringify(filters)) <= filterBytesMax) return;
  const detail = `The types of an inbox, with those that it had before, may take ${filterBytesMax} bytes. Use patterns such as "order.*".`;
  throw new Problem('limit_reached', detail);
}

function toInfo(row: InboxRow): InboxInfo {
  return {
    subscription: row.subscription,
    name: row.name,
    types: row.filters.at(-1)?.types ?? null,
    maxAttempts: row.max_attempts,
    expired: Number(row.expired),
    erased: Number(row.erased),
    createdAtMs: row.created_at.getTime(),
  };
}

function nameTaken(name: string): Problem {
  return new Problem('name_taken', `There is an inbox "${name}" already.`);
}

export function noInbox(): Problem {
  return new Problem('not_found', 'There is no such inbox.');
}
