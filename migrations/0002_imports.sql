-- How far each `sluice import` into this database has come. A row moves in the very transaction that stores a chunk of the file, so that an import
-- that was ended at any moment goes on where it was. Only the owner reads and writes it: it holds no rows of an org, and nobody has a grant.
CREATE TABLE imports (
  -- SHA-256 of the file up to the end of its first chunk: which file it is
  first_checksum bytea PRIMARY KEY CHECK (octet_length(first_checksum) = 32),
  -- how many chunks are stored, and SHA-256 of the file up to the end of the last of them
  chunks         bigint NOT NULL CHECK (chunks > 0),
  checksum       bytea NOT NULL CHECK (octet_length(checksum) = 32),
  -- the file was stored to its end
  complete       boolean NOT NULL DEFAULT false
);
