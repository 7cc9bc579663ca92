-- Named inboxes: what a subscription wants, and which part of the log it never sees.
ALTER TABLE subscriptions
  -- how many dead letters it has
  ADD COLUMN dead bigint NOT NULL DEFAULT 0 CHECK (dead >= 0),
  -- passed over without having been handed out: before its start, or by a seek
  ADD COLUMN skipped int8multirange NOT NULL DEFAULT '{}',
  -- versions of the filter, each {"from": position, "types": [patterns] or null for all}, in the order of their positions; before the first: all
  ADD COLUMN filters jsonb NOT NULL DEFAULT '[]';

ALTER TABLE leases
  -- released before its end, or redriven: nobody has it, and it is handed out again from available_at on
  ADD COLUMN waiting boolean NOT NULL DEFAULT false,
  DROP CONSTRAINT leases_attempt_check,
  -- 0: redriven, so that its attempts begin anew
  ADD CONSTRAINT leases_attempt_check CHECK (attempt >= 0);

-- An owner that is no superuser is held to row-level security as well.
ALTER TABLE subscriptions NO FORCE ROW LEVEL SECURITY;
ALTER TABLE dead_letters NO FORCE ROW LEVEL SECURITY;
UPDATE subscriptions AS s SET dead = d.dead
FROM (SELECT org, subscription, count(*) AS dead FROM dead_letters GROUP BY org, subscription) AS d
WHERE s.org = d.org AND s.subscription = d.subscription;
ALTER TABLE subscriptions FORCE ROW LEVEL SECURITY;
ALTER TABLE dead_letters FORCE ROW LEVEL SECURITY;

GRANT INSERT, DELETE, UPDATE (dead, skipped, filters, max_attempts) ON subscriptions TO sluice_app;
