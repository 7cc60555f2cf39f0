-- What identical builds of an owner are found by, and whose image a build takes.

ALTER TABLE builds ADD COLUMN input TEXT;      -- a hash over all that an image is made from
ALTER TABLE builds ADD COLUMN follows BLOB;    -- the build whose image this one takes
ALTER TABLE builds ADD COLUMN made_at INTEGER; -- when the image was made, milliseconds since 1970

CREATE INDEX builds_by_input ON builds (owner, input, registry, repository, seq)
    WHERE input IS NOT NULL AND state IN ('queued', 'running', 'pushed', 'succeeded');
CREATE INDEX builds_unfinished_by_target ON builds (registry, repository, tag, seq)
    WHERE state IN ('queued', 'running', 'pushed');
