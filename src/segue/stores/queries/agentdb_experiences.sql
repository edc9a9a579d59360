-- Experiences. Rows of the application's own have no source; those from Redis are found again by their natural key.
CREATE TABLE IF NOT EXISTS rl_experiences (
    id           BIGSERIAL PRIMARY KEY,
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
);
CREATE UNIQUE INDEX IF NOT EXISTS rl_experiences_natural_key ON rl_experiences (natural_key);
