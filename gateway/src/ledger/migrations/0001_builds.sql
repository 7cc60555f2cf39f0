-- One row for each accepted build, for as long as retention keeps it.

CREATE TABLE installation (
    only_row     INTEGER PRIMARY KEY CHECK (only_row = 1),
    instance     BLOB    NOT NULL,
    tenant_key   BLOB    NOT NULL
) STRICT;

CREATE TABLE builds (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of acceptance
    id           BLOB    NOT NULL UNIQUE,
    owner        TEXT    NOT NULL,
    content_id   TEXT,                              -- what `ensure` finds an equal build by
    registry     TEXT    NOT NULL,
    repository   TEXT    NOT NULL,
    tag          TEXT    NOT NULL,
    request      TEXT    NOT NULL,                  -- JSON
    sealed       BLOB,                              -- what the build needs of its owner's secrets; gone at the end
    state        TEXT    NOT NULL,
    attempt      INTEGER NOT NULL DEFAULT 0,
    crashes      INTEGER NOT NULL DEFAULT 0,
    lease_until  INTEGER,
    cancelled    INTEGER NOT NULL DEFAULT 0,
    accepted_at  INTEGER NOT NULL,                  -- milliseconds since 1970
    started_at   INTEGER,
    finished_at  INTEGER,
    digest       TEXT,
    extender     TEXT,
    failure      TEXT                               -- JSON
) STRICT;

CREATE INDEX builds_by_target ON builds (registry, repository, tag, seq) WHERE state = 'succeeded';
CREATE INDEX builds_by_owner ON builds (owner, seq);
CREATE INDEX builds_finished ON builds (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX builds_unfinished ON builds (seq) WHERE state IN ('queued', 'running', 'pushed');
CREATE UNIQUE INDEX builds_by_content ON builds (owner, content_id) WHERE content_id IS NOT NULL;

-- The file that came with a request; in the row's transaction, so acceptance costs one sync.
CREATE TABLE files (
    build        BLOB    PRIMARY KEY REFERENCES builds (id) ON DELETE CASCADE,
    bytes        BLOB    NOT NULL
) STRICT;

-- Which extender a base has: a step that the cache answers says nothing about it.
CREATE TABLE extenders (
    base         TEXT    NOT NULL,                  -- the base's digest
    kind         TEXT    NOT NULL,
    extender     TEXT    NOT NULL,
    PRIMARY KEY (base, kind)
) STRICT;
