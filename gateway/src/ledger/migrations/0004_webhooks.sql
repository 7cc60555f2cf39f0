-- Where the owner of a build wants to be told of it.
CREATE TABLE webhooks (
    build        BLOB    PRIMARY KEY REFERENCES builds (id) ON DELETE CASCADE,
    owner        TEXT    NOT NULL,
    style        TEXT    NOT NULL,                  -- what is sent: `cloudevents` or a door's own answer
    url          TEXT    NOT NULL,
    secret       BLOB,                              -- sealed; gone once there is nothing left to send
    image        TEXT,                              -- as the caller wrote it, where answers repeat that
    events       TEXT    NOT NULL                   -- the states to tell of, each between commas
) STRICT;

-- What is to be sent, and what became of it. A row is made by the transaction that moves the build.
CREATE TABLE deliveries (
    build        BLOB    NOT NULL REFERENCES webhooks (build) ON DELETE CASCADE,
    state        TEXT    NOT NULL,
    owner        TEXT    NOT NULL,
    occurred_at  INTEGER NOT NULL,                  -- milliseconds since 1970
    due_at       INTEGER,                           -- null once there is nothing left to do
    attempts     INTEGER NOT NULL DEFAULT 0,
    outcome      TEXT    NOT NULL DEFAULT 'pending',
    status       INTEGER,                           -- the last answer's
    error        TEXT,                              -- why there was none, or none that counts
    PRIMARY KEY (build, state)
) STRICT, WITHOUT ROWID;

CREATE INDEX deliveries_by_owner ON deliveries (owner, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_by_time ON deliveries (due_at) WHERE due_at IS NOT NULL;

-- Triggers, so that no way to a state, now or later, forgets to tell of it. A build that begins again is told of once.
CREATE TRIGGER webhooks_of_moved AFTER UPDATE OF state ON builds WHEN NEW.state <> OLD.state
BEGIN
    INSERT INTO deliveries (build, state, owner, occurred_at, due_at)
    SELECT build, NEW.state, owner, now, now FROM
        (SELECT build, owner, events, CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now FROM webhooks WHERE build = NEW.id)
    WHERE instr(events, ',' || NEW.state || ',')
    ON CONFLICT DO NOTHING;
END;

CREATE TRIGGER webhooks_of_new AFTER INSERT ON webhooks
BEGIN
    INSERT INTO deliveries (build, state, owner, occurred_at, due_at)
    SELECT id, state, NEW.owner, now, now FROM
        (SELECT id, state, CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now FROM builds WHERE id = NEW.build)
    WHERE instr(NEW.events, ',' || state || ',')
    ON CONFLICT DO NOTHING;
END;
