-- What agents' live traffic needs besides: the one row that decides, what is to stay gone, and what only PostgreSQL has.
CREATE TABLE IF NOT EXISTS segue_agentdb_control (
    single           BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (single),
    mode             TEXT NOT NULL DEFAULT 'redis_only',
    epoch            BIGINT NOT NULL DEFAULT 1,
    open             BOOLEAN NOT NULL DEFAULT TRUE,
    reason           TEXT NOT NULL DEFAULT '',
    changed_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
    validated_at     TIMESTAMPTZ,
    validated_epoch  BIGINT,
    validated_clean  BOOLEAN,
    validated_detail TEXT
);
INSERT INTO segue_agentdb_control (single) VALUES (TRUE) ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS segue_agentdb_gone (
    natural_key  UUID PRIMARY KEY,
    observed_at  TIMESTAMPTZ NOT NULL
);

CREATE TABLE IF NOT EXISTS segue_agentdb_only_here (
    id      BIGSERIAL PRIMARY KEY,
    packed  BYTEA NOT NULL
);

-- What happened to agent state: changes of the mode, comparisons, copies. Added to, never changed.
CREATE TABLE IF NOT EXISTS segue_agentdb_event (
    id       BIGSERIAL PRIMARY KEY,
    at       TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    kind     TEXT NOT NULL,
    sentence TEXT NOT NULL,
    data     JSONB NOT NULL,
    made_by  TEXT NOT NULL,
    version  TEXT NOT NULL
);
