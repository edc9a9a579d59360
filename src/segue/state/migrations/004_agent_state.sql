-- Copies of agent state: what a range (a node's logical database) came to, by kind, and keys that no mapping takes.
CREATE TABLE agent_copied (
    run      INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    range    INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    keys     INTEGER NOT NULL,
    migrated INTEGER NOT NULL,
    written  INTEGER NOT NULL,          -- of these: new, or in place of older ones that differed
    skipped  INTEGER NOT NULL,          -- rows left out on request
    PRIMARY KEY (run, range, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE agent_unknown (
    run     INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    range   INTEGER NOT NULL,
    shape   TEXT NOT NULL,              -- what the keys look like, changing pieces left out
    keys    INTEGER NOT NULL,
    example TEXT NOT NULL,
    PRIMARY KEY (run, range, shape)
) STRICT, WITHOUT ROWID;

-- A piece of a large key that is read again after a kill quarantines nothing twice.
CREATE INDEX quarantine_of_key ON quarantine (run, key, element_id);
