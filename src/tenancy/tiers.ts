import type { LimitMode, Tier } from '../db/sql/tenancy.js';

/** Events a minute that an org may send. A bucket holds one minute's worth and refills continuously. */
export const eventsPerMinute: Readonly<Record<Tier, number>> = {
  free: 100,
  pro: 1_000,
  business: 10_000,
  enterprise: 100_000,
};

export interface Limits {
  readonly ratePerMinute: number;
  readonly burst: number;
  /** `shadow` counts what it would refuse, and refuses nothing. */
  readonly mode: LimitMode;
}

/** What an org may do: its own limits where it has any, else its tier's. */
export function limitsOf(org: {
  readonly tier: Tier;
  readonly rate_per_minute: string | null;
  readonly burst: string | null;
  readonly limit_mode: LimitMode;
}): Limits {
  const ratePerMinute = org.rate_per_minute === null ? eventsPerMinute[org.tier] : Number(org.rate_per_minute);
  return { ratePerMinute, burst: org.burst === null ? ratePerMinute : Number(org.burst), mode: org.limit_mode };
}
