-- Experiences, a partition a month of `timestamp` (UTC), and one for what has no time or an odd one. A unique key must hold the
-- partition's column, so an experience is identified by its natural key and its time.
CREATE TABLE IF NOT EXISTS rl_experiences (
    id           BIGSERIAL,
    agent_id     VARCHAR(100) NOT NULL,
    state        JSONB,
    action       VARCHAR(100),
    reward       FLOAT,
    next_state   JSONB,
    done         BOOLEAN,
    "timestamp"  TIMESTAMPTZ,
    natural_key  UUID NOT NULL DEFAULT gen_random_uuid(),
    content_hash UUID,
    source_db    INTEGER,
    source_key   TEXT,
    observed_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at   TIMESTAMPTZ
) PARTITION BY RANGE ("timestamp");
CREATE UNIQUE INDEX IF NOT EXISTS rl_experiences_natural_key ON rl_experiences (natural_key, "timestamp") NULLS NOT DISTINCT;
CREATE INDEX IF NOT EXISTS rl_experiences_id ON rl_experiences (id);
CREATE TABLE IF NOT EXISTS rl_experiences_other PARTITION OF rl_experiences DEFAULT;
