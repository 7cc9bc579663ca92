-- Erasure of subjects: what an org was asked to forget, how far that is, and, once it is done, the certificate of it.

ALTER TABLE subscriptions
  -- how many of its events were not done when they were erased
  ADD COLUMN erased bigint NOT NULL DEFAULT 0 CHECK (erased >= 0);
GRANT UPDATE (erased) ON subscriptions TO sluice_app;

CREATE TABLE erasures (
  org           bigint NOT NULL REFERENCES orgs,
  erasure       text COLLATE "C" NOT NULL,
  -- null once it is done
  subject       text COLLATE "C",
  -- docs/erasure.md says over what
  subject_hash  bytea NOT NULL CHECK (octet_length(subject_hash) = 32),
  requested_at  timestamptz(3) NOT NULL,
  -- the newest request for it, and where the log ended then: what comes later is not erased
  covers_until  timestamptz(3) NOT NULL,
  last_position bigint NOT NULL,
  last_day      integer NOT NULL,
  -- everything before this day, and up to this position, has been looked at
  position      bigint NOT NULL DEFAULT 0,
  day           integer NOT NULL DEFAULT 0,
  began_at      timestamptz(3),
  ended_at      timestamptz(3),
  -- by table: how many rows, and between which days
  counts        jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (org, erasure),
  CHECK ((subject IS NULL) = (ended_at IS NOT NULL))
);
CREATE UNIQUE INDEX erasures_running_subject ON erasures (org, subject) WHERE subject IS NOT NULL;
CREATE INDEX erasures_running ON erasures (org, requested_at, erasure) WHERE subject IS NOT NULL;
CREATE INDEX erasures_ended ON erasures (ended_at) WHERE ended_at IS NOT NULL;

ALTER TABLE erasures ENABLE ROW LEVEL SECURITY;
ALTER TABLE erasures FORCE ROW LEVEL SECURITY;
CREATE POLICY app_own_org ON erasures TO sluice_app USING (org = NULLIF(current_setting('sluice.org', true), '')::bigint);
GRANT SELECT, INSERT, UPDATE (subject, covers_until, last_position, last_day, position, day, began_at, ended_at, counts)
  ON erasures TO sluice_app;

-- `sluice_erasure` finds what is under way in any org, and deletes the certificates that are over a year old and those of deleted orgs.
CREATE POLICY erasure_every_org ON erasures FOR SELECT TO sluice_erasure USING (true);
CREATE POLICY erasure_expired ON erasures FOR DELETE TO sluice_erasure USING (ended_at < now() - interval '365 days');
CREATE POLICY erasure_deleted_orgs ON erasures TO sluice_erasure USING (EXISTS (SELECT FROM deleted_orgs AS d WHERE d.org = erasures.org));
GRANT SELECT (org, erasure, subject, requested_at, last_position, ended_at), DELETE ON erasures TO sluice_erasure;

-- Of orgs that live, it can delete the events of a subject while that subject's erasure is under way, up to where that goes.
CREATE POLICY erasure_subjects ON events TO sluice_erasure
  USING (EXISTS (
    SELECT FROM erasures AS s WHERE s.org = events.org AND s.subject = events.subject AND events.position <= s.last_position));
