-- In which run of which server the last event of each log was stored. A log whose run is another one now may have been restored, or come from a standby
-- that had not received all of it: its next batch gets a new epoch, so that no id is given out a second time.

-- Differs after a start of the server (also of a restored copy, or of another server that was a standby), after a crash that it recovers from by itself,
-- and in a table that was made or filled anew.
CREATE FUNCTION sluice_server_run() RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT hashtextextended(concat_ws(' ', extract(epoch FROM pg_postmaster_start_time()),
    extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time()), pg_relation_filepath('heads')), 0)
$$;

-- null: it is not known
ALTER TABLE heads ADD COLUMN server_run bigint;
ALTER TABLE heads ALTER COLUMN server_run SET DEFAULT sluice_server_run();
GRANT UPDATE (epoch, server_run) ON heads TO sluice_ingest;
