-- Q-values, policies and metadata, with the same columns of their source as experiences.
CREATE TABLE IF NOT EXISTS rl_q_values (
    id           BIGSERIAL PRIMARY KEY,
    agent_id     VARCHAR(100) NOT NULL,
    state        TEXT NOT NULL,
    action       VARCHAR(100) NOT NULL,
    q_value      FLOAT NOT NULL,
    visits       BIGINT,
    "timestamp"  TIMESTAMPTZ,
    natural_key  UUID NOT NULL DEFAULT gen_random_uuid(),
    content_hash UUID,
    source_db    INTEGER,
    source_key   TEXT,
    observed_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at   TIMESTAMPTZ
);
CREATE UNIQUE INDEX IF NOT EXISTS rl_q_values_natural_key ON rl_q_values (natural_key);

CREATE TABLE IF NOT EXISTS rl_policies (
    id           BIGSERIAL PRIMARY KEY,
    agent_id     VARCHAR(100) NOT NULL,
    version      VARCHAR(100),
    policy       JSONB,
    payload      BYTEA,
    "timestamp"  TIMESTAMPTZ,
    natural_key  UUID NOT NULL DEFAULT gen_random_uuid(),
    content_hash UUID,
    source_db    INTEGER,
    source_key   TEXT,
    observed_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at   TIMESTAMPTZ
);
CREATE UNIQUE INDEX IF NOT EXISTS rl_policies_natural_key ON rl_policies (natural_key);

CREATE TABLE IF NOT EXISTS rl_agent_metadata (
    id           BIGSERIAL PRIMARY KEY,
    agent_id     VARCHAR(100) NOT NULL,
    name         VARCHAR(200),
    value        JSONB,
    "timestamp"  TIMESTAMPTZ,
    natural_key  UUID NOT NULL DEFAULT gen_random_uuid(),
    content_hash UUID,
    source_db    INTEGER,
    source_key   TEXT,
    observed_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at   TIMESTAMPTZ
);
CREATE UNIQUE INDEX IF NOT EXISTS rl_agent_metadata_natural_key ON rl_agent_metadata (natural_key);
