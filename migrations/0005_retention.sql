-- What falls out of an org's retention.
ALTER TABLE subscriptions
  -- how many of its events were not done when they fell out of retention
  ADD COLUMN expired bigint NOT NULL DEFAULT 0 CHECK (expired >= 0);
ALTER TABLE heads
  -- of the days below it no event below the floor is stored any more
  ADD COLUMN purged_day integer NOT NULL DEFAULT 0;
CREATE INDEX dedup_day ON dedup (day);

GRANT UPDATE (expired) ON subscriptions TO sluice_app;
GRANT UPDATE (first_position, first_day) ON heads TO sluice_app;
GRANT UPDATE (purged_day) ON heads TO sluice_system;

-- Of orgs that live, `sluice_erasure` can delete what is below their floors, and dedup rows of days before the day before the newest event; no more.
CREATE POLICY erasure_every_org ON heads FOR SELECT TO sluice_erasure USING (true);
GRANT SELECT (org, day, first_position) ON heads TO sluice_erasure;
CREATE POLICY erasure_expired ON events TO sluice_erasure
  USING (EXISTS (SELECT FROM heads AS h WHERE h.org = events.org AND events.position < h.first_position));
CREATE POLICY erasure_expired ON dedup TO sluice_erasure USING (day < (SELECT max(h.day) FROM heads AS h) - 1);
GRANT SELECT (day) ON dedup TO sluice_erasure;
