-- Copies of collections: a run, its ranges, and the rows that could not go.
CREATE TABLE run (
    number      INTEGER PRIMARY KEY,
    collection  TEXT NOT NULL,
    target      TEXT NOT NULL,          -- the sink's identity of the physical collection
    conditions  TEXT NOT NULL,          -- JSON: config, schema and tool version the run was begun under
    notes       TEXT NOT NULL,          -- JSON list: what the operator was told when the plan was made
    begun_at    TEXT NOT NULL,          -- ISO 8601, UTC
    finished_at TEXT,
    seconds     REAL NOT NULL DEFAULT 0 -- working time over all interruptions
) STRICT;

CREATE INDEX run_of_collection ON run (collection, number);

CREATE TABLE range (
    run       INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    number    INTEGER NOT NULL,
    after_key TEXT,                     -- JSON, so that the text "1" and the number 1 stay apart; NULL is unbounded
    until_key TEXT,
    keyed     INTEGER NOT NULL,
    planned   INTEGER NOT NULL,
    cursor    TEXT,                     -- JSON: the last key acknowledged by the sink
    migrated  INTEGER NOT NULL DEFAULT 0,
    done      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;

-- How many rows of a range are quarantined is counted here and kept nowhere else.
CREATE TABLE quarantine (
    run        INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    range      INTEGER NOT NULL,
    place      INTEGER NOT NULL,        -- order of discovery within the range
    key        TEXT,                    -- JSON; NULL where the node has none
    element_id TEXT NOT NULL,
    reason     TEXT NOT NULL,
    detail     TEXT NOT NULL,
    PRIMARY KEY (run, range, place)
) STRICT, WITHOUT ROWID;
