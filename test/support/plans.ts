import assert from 'node:assert/strict';
import type { Database, Statement } from '../../src/db/database.js';
import { intercept } from './log.js';

export interface PlanNode {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Index Name'?: string;
  readonly 'Actual Rows': number;
  readonly 'Actual Loops': number;
  readonly 'Rows Removed by Filter'?: number;
  readonly Plans?: readonly PlanNode[];
}

/** Every step of a plan. */
export function stepsOf(plan: PlanNode): PlanNode[] {
  return [plan, ...(plan.Plans ?? []).flatMap(stepsOf)];
}

/** The most rows that a step of the plan came by, wanted or not. */
export function rowsTouched(plan: PlanNode): number {
  return Math.max(
    ...stepsOf(plan).map((step) => step['Actual Rows'] * step['Actual Loops'] + (step['Rows Removed by Filter'] ?? 0)),
  );
}

let texts = 0;

/** The same database; hands over the plan of each statement that reads events, before it is run. `alter` may change its text. */
export function explaining(
  database: Database,
  onPlan: (statement: Statement, plan: PlanNode) => void,
  alter = (text: string): string => text,
): Database {
  return intercept(database, async (statement, values, real) => {
    if (statement.text.includes('events AS e')) {
      const text = `EXPLAIN (ANALYZE, FORMAT JSON) ${alter(statement.text)}`;
      const name = `test_plan_${++texts}`;
      const { rows } = await real<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>({ name, text }, values);
      const plan = rows[0]?.['QUERY PLAN'][0].Plan;
      assert.ok(plan);
      onPlan(statement, plan);
    }
    return real(statement, values);
  });
}
