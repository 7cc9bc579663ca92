import assert from 'node:assert/strict';
import type { IncomingHttpHeaders } from 'node:http';
import { setImmediate as turn } from 'node:timers/promises';
import { Authenticator } from '../../src/admission/authenticate.js';
import type { Caller } from '../../src/admission/authenticate.js';
import type { Database, QueryResult, Scope, Statement } from '../../src/db/database.js';
import type { KeyHolderRow } from '../../src/db/sql/keys.js';
import { Problem } from '../../src/errors.js';
import { TestClock } from './test-clock.js';

export const adminToken = 'the-admin-token-of-this-test';

export type Holder = Omit<KeyHolderRow, 'hash' | 'version'>;
export const holder: Holder = {
  org: '7',
  key_id: 'key_of_the_test',
  scopes: ['events:write'],
  ends_at: null,
  tier: 'free',
  rate_per_minute: null,
  burst: null,
  limit_mode: 'enforce',
  suspended: false,
};

interface Waiting<Answer> {
  answer(answer: Answer): void;
  fail(error: Error): void;
}

/** Look-ups and polls that are answered when the test says so, in the order in which they came. */
export class Lookups implements Database {
  readonly engine = 'postgres';
  /** Statements. What is answered, each of its keys gets; a function is asked for each. */
  readonly waiting: Waiting<Partial<Holder> | null | ((hash: Buffer) => Partial<Holder> | null)>[] = [];
  readonly polls: Waiting<string>[] = [];
  /** Keys, statements that look them up, and polls. */
  asked = 0;
  statements = 0;
  polled = 0;
  /** Read as the statement is answered. */
  version = '1';
  /** Null: the test answers. Else every look-up gets this at once. */
  always: { readonly row: Holder | null } | null = null;
  /** Every poll gets `version` at once. */
  answersPolls = false;

  query<Row>(_scope: Scope, { name }: Statement, values: readonly unknown[] = []): Promise<QueryResult<Row>> {
    return (name === 'key_access_version' ? this.#poll() : this.#find(name, values[0] as Buffer[])) as Promise<
      QueryResult<Row>
    >;
  }

  #poll(): Promise<QueryResult<{ version: string }>> {
    this.polled++;
    const result = (version: string) => ({ rows: [{ version }], rowCount: 1 });
    if (this.answersPolls) return Promise.resolve(result(this.version));
    return new Promise((resolve, reject) => {
      this.polls.push({ answer: (version) => resolve(result(version)), fail: reject });
    });
  }

  #find(name: string, hashes: readonly Buffer[]): Promise<QueryResult<KeyHolderRow>> {
    assert.equal(name, 'key_find_by_hash');
    this.asked += hashes.length;
    this.statements++;
    const { version } = this;
    const result = (rowOf: (hash: Buffer) => Partial<Holder> | null) => {
      const rows = hashes.flatMap((hash) => {
        const row = rowOf(hash);
        return row === null ? [] : [{ ...holder, ...row, hash, version }];
      });
      return { rows, rowCount: rows.length };
    };
    const { always } = this;
    if (always !== null) return Promise.resolve(result(() => always.row));
    return new Promise((resolve, reject) => {
      const answer = (given: Parameters<(typeof this.waiting)[number]['answer']>[0]): void =>
        resolve(result(typeof given === 'function' ? given : () => given));
      this.waiting.push({ answer, fail: reject });
    });
  }

  /** Look-ups leave at the end of a turn. */
  async next() {
    await turn();
    const first = this.waiting.shift();
    assert.ok(first, 'no look-up is under way');
    return first;
  }

  nextPoll() {
    const first = this.polls.shift();
    assert.ok(first, 'no poll is under way');
    return first;
  }

  transaction = (): Promise<never> => assert.fail('a look-up is one query');
  listen = (): Promise<never> => assert.fail('a look-up listens to nothing');
  close = (): Promise<void> => Promise.resolve();
}

export interface Setup {
  readonly authenticator: Authenticator;
  readonly lookups: Lookups;
  readonly clock: TestClock;
}

export function setUp(Kind: typeof Authenticator = Authenticator): Setup {
  const lookups = new Lookups();
  const clock = new TestClock();
  return { authenticator: new Kind(lookups, clock, adminToken), lookups, clock };
}

export const bearer = (key: string): IncomingHttpHeaders => ({ authorization: `Bearer ${key}` });
export const ask = async ({ authenticator }: Setup, key: string): Promise<Caller> =>
  authenticator.authenticate(bearer(key));
export const refusal = (code: string) => (error: unknown) => error instanceof Problem && error.code === code;
