-- A deleted org is hidden from the commit of its tombstone on, so its keys are no keys.
CREATE TRIGGER deleted_orgs_access AFTER INSERT ON deleted_orgs FOR EACH STATEMENT EXECUTE FUNCTION raise_access_version();
