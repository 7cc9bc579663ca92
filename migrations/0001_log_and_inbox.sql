-- The log of events, its heads, the dedup window, organisations, keys and the state of subscriptions.
-- Every table is keyed by org, and every statement names its orgs, so that the schema can be distributed by org.

CREATE TABLE schema_migrations (
  version    integer PRIMARY KEY,
  name       text NOT NULL,
  applied_at timestamptz NOT NULL
);

-- Roles belong to the whole server, so another database of the same server may have made them already, or be making them now.
DO $$
DECLARE
  role_name text;
BEGIN
  FOREACH role_name IN ARRAY ARRAY['sluice_ingest', 'sluice_app', 'sluice_system'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', role_name);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;
      END;
    END IF;
    -- A user that is no superuser must be able to become each of them. Where whoever runs the server has granted that already, and this user
    -- may not grant it itself, that is as good.
    BEGIN
      EXECUTE format('GRANT %I TO %I', role_name, current_user);
    EXCEPTION WHEN insufficient_privilege THEN
      NULL;
    END;
  END LOOP;
END
$$;

GRANT USAGE ON SCHEMA public TO sluice_ingest, sluice_app, sluice_system;

CREATE TABLE orgs (
  org             bigint PRIMARY KEY CHECK (org > 0),
  name            text NOT NULL,
  tier            text NOT NULL CHECK (tier IN ('free', 'pro', 'business', 'enterprise')),
  -- null: as the tier says
  rate_per_minute bigint CHECK (rate_per_minute > 0),
  burst           bigint CHECK (burst > 0),
  limit_mode      text NOT NULL DEFAULT 'enforce' CHECK (limit_mode IN ('enforce', 'shadow')),
  retention_days  integer NOT NULL DEFAULT 30 CHECK (retention_days > 0),
  suspended       boolean NOT NULL DEFAULT false,
  created_at      timestamptz NOT NULL
);

CREATE TABLE api_keys (
  org          bigint NOT NULL REFERENCES orgs,
  key_id       text COLLATE "C" NOT NULL,
  -- SHA-256 of the key; the key itself is never stored
  hash         bytea NOT NULL CHECK (octet_length(hash) = 32),
  name         text NOT NULL,
  prefix       text NOT NULL,
  scopes       text[] NOT NULL,
  created_at   timestamptz NOT NULL,
  expires_at   timestamptz,
  -- the end of its grace, once it was rotated
  retires_at   timestamptz,
  last_used_at timestamptz,
  PRIMARY KEY (org, key_id),
  UNIQUE (hash, org)
);

-- Where each org's log ends. The row lock of a batch's reserve orders the commits of one org.
CREATE TABLE heads (
  org            bigint PRIMARY KEY REFERENCES orgs,
  -- raised whenever positions might be given out a second time, so that an event id never names two events
  epoch          integer NOT NULL,
  position       bigint NOT NULL,
  -- days since 1970-01-01 and the time of the last batch; neither ever decreases
  day            integer NOT NULL,
  received_at    timestamptz NOT NULL,
  first_position bigint NOT NULL,
  first_day      integer NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE events (
  org         bigint NOT NULL,
  epoch       integer NOT NULL,
  position    bigint NOT NULL,
  day         integer NOT NULL,
  type        text COLLATE "C" NOT NULL,
  subject     text COLLATE "C",
  occurred_at timestamptz,
  received_at timestamptz NOT NULL,
  attributes  jsonb,
  -- the bytes that were sent, never serialised again
  payload     text COLLATE "C" NOT NULL,
  PRIMARY KEY (org, position, day)
) PARTITION BY RANGE (day);

CREATE TABLE dedup (
  org         bigint NOT NULL,
  dedup_id    text COLLATE "C" NOT NULL,
  epoch       integer NOT NULL,
  position    bigint NOT NULL,
  day         integer NOT NULL,
  received_at timestamptz NOT NULL,
  -- SHA-256 of type and payload
  body_hash   bytea NOT NULL,
  PRIMARY KEY (org, dedup_id)
);

CREATE TABLE subscriptions (
  org          bigint NOT NULL REFERENCES orgs,
  subscription integer NOT NULL,
  kind         text NOT NULL CHECK (kind IN ('inbox', 'webhook')),
  name         text COLLATE "C" NOT NULL,
  max_attempts integer NOT NULL CHECK (max_attempts > 0),
  -- everything above it has not been handed out; everything at or below it is done unless a lease or a dead letter has it
  cursor       bigint NOT NULL,
  cursor_day   integer NOT NULL,
  -- acknowledged above the cursor, without having been received
  ahead        int8multirange NOT NULL DEFAULT '{}',
  -- how many positions its leases hold
  held         bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
  created_at   timestamptz NOT NULL,
  PRIMARY KEY (org, subscription),
  UNIQUE (org, kind, name)
) WITH (fillfactor = 50);

-- What is handed out (leased, until available_at) or waits for its next attempt (from available_at on).
CREATE TABLE leases (
  org          bigint NOT NULL,
  subscription integer NOT NULL,
  lease        text COLLATE "C" NOT NULL,
  attempt      integer NOT NULL CHECK (attempt > 0),
  available_at timestamptz NOT NULL,
  positions    int8multirange NOT NULL CHECK (NOT isempty(positions)),
  -- the days between which the events lie
  first_day    integer NOT NULL,
  last_day     integer NOT NULL,
  PRIMARY KEY (org, subscription, lease),
  FOREIGN KEY (org, subscription) REFERENCES subscriptions
);
CREATE INDEX leases_due ON leases (org, subscription, available_at, lease);

CREATE TABLE dead_letters (
  org          bigint NOT NULL,
  subscription integer NOT NULL,
  position     bigint NOT NULL,
  day          integer NOT NULL,
  attempts     integer NOT NULL,
  died_at      timestamptz NOT NULL,
  PRIMARY KEY (org, subscription, position),
  FOREIGN KEY (org, subscription) REFERENCES subscriptions
);

-- One random secret of the whole installation, shared by its nodes: it signs cursors.
CREATE TABLE server_secrets (
  name  text PRIMARY KEY,
  value bytea NOT NULL
);
INSERT INTO server_secrets VALUES ('cursor', sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));

-- Row-level security: enabled and forced wherever there is an org. A policy compares with the org of the transaction; without one
-- (null, or the empty string that an earlier transaction leaves behind) there are no rows.
DO $$
DECLARE
  table_name text;
BEGIN
  FOREACH table_name IN ARRAY ARRAY['orgs', 'api_keys', 'heads', 'events', 'dedup', 'subscriptions', 'leases', 'dead_letters'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', table_name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', table_name);
    EXECUTE format(
      'CREATE POLICY app_own_org ON %I TO sluice_app USING (org = NULLIF(current_setting(''sluice.org'', true), '''')::bigint)', table_name);
  END LOOP;
END
$$;
CREATE POLICY ingest_every_org ON heads TO sluice_ingest USING (true);
CREATE POLICY ingest_every_org ON dedup TO sluice_ingest USING (true);
CREATE POLICY system_every_org ON orgs TO sluice_system USING (true);
CREATE POLICY system_every_org ON api_keys TO sluice_system USING (true);
CREATE POLICY system_every_org ON heads TO sluice_system USING (true);
CREATE POLICY system_every_org ON subscriptions TO sluice_system USING (true);
CREATE POLICY system_every_org ON leases TO sluice_system USING (true);

GRANT SELECT, UPDATE (position, day, received_at) ON heads TO sluice_ingest;
GRANT SELECT, INSERT ON dedup TO sluice_ingest;

GRANT SELECT ON orgs, heads, events TO sluice_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON api_keys, leases, dead_letters TO sluice_app;
GRANT SELECT, UPDATE (cursor, cursor_day, ahead, held) ON subscriptions TO sluice_app;

GRANT SELECT, INSERT, UPDATE ON orgs TO sluice_system;
GRANT SELECT, INSERT, UPDATE (last_used_at) ON api_keys TO sluice_system;
GRANT SELECT, INSERT ON heads, subscriptions TO sluice_system;
GRANT SELECT ON leases TO sluice_system;
