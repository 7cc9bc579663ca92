-- What a key may do depends on its org as well.
CREATE TRIGGER orgs_access AFTER UPDATE OF org, tier, rate_per_minute, burst, limit_mode, suspended OR DELETE OR TRUNCATE ON orgs
  FOR EACH STATEMENT EXECUTE FUNCTION raise_access_version();
