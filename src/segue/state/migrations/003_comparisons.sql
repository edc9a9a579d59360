-- Comparisons of both sides: one of all of a collection, its ranges with what came of them, and the keys that differ.
CREATE TABLE comparison (
    number      INTEGER PRIMARY KEY,
    collection  TEXT NOT NULL,
    conditions  TEXT NOT NULL,          -- JSON: depth, config, schema, capture and tool version it was begun under
    begun_at    TEXT NOT NULL,          -- ISO 8601, UTC
    finished_at TEXT
) STRICT;

CREATE TABLE compared_range (
    comparison INTEGER NOT NULL REFERENCES comparison ON DELETE CASCADE,
    number     INTEGER NOT NULL,
    after_key  TEXT,                    -- JSON; NULL is unbounded
    until_key  TEXT,
    planned    INTEGER NOT NULL,
    tally      TEXT,                    -- JSON; NULL until the range is compared
    PRIMARY KEY (comparison, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE differing_key (
    comparison INTEGER NOT NULL REFERENCES comparison ON DELETE CASCADE,
    range      INTEGER NOT NULL,
    place      INTEGER NOT NULL,        -- order of discovery within the range
    key        TEXT NOT NULL,           -- JSON
    kind       TEXT,                    -- NULL: it was changing, and has no verdict yet
    shown      TEXT NOT NULL,           -- JSON list: field, source, sink of what is reported
    PRIMARY KEY (comparison, range, place)
) STRICT, WITHOUT ROWID;
