-- How often who may do what was changed: a node believes what it knows of a key for as long as the sum of these versions stays the same.
-- Triggers raise it in the transaction of the change, so it is seen when the change is, whoever made it: any version of the program, or a person.

-- A change takes a row that nobody else has, or adds one. With one row for all, changes would wait for each other, and could do so in a circle with
-- other locks that they hold. There are as many rows as there were ever changes at one time.
CREATE TABLE access_versions (
  slot    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  version bigint NOT NULL
) WITH (fillfactor = 50);
GRANT SELECT ON access_versions TO sluice_system;

-- As its owner, so that whoever may change a key or an org needs no right to this table.
CREATE FUNCTION raise_access_version() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  -- Of any size, so that a standby that took over without the last changes does not come to the same sum by others.
  step bigint := 1 + floor(random() * 2147483647)::bigint;
  free bigint;
BEGIN
  SELECT slot INTO free FROM access_versions LIMIT 1 FOR UPDATE SKIP LOCKED;
  IF FOUND THEN
    UPDATE access_versions SET version = version + step WHERE slot = free;
  ELSE
    INSERT INTO access_versions (version) VALUES (step);
  END IF;
  RETURN NULL;
END
$$;

-- Not for keys that are new, which nobody knows, nor for `last_used_at`, which is written all the time.
CREATE TRIGGER api_keys_access AFTER UPDATE OF org, key_id, hash, scopes, expires_at, retires_at OR DELETE OR TRUNCATE ON api_keys
  FOR EACH STATEMENT EXECUTE FUNCTION raise_access_version();
