-- For what agents ask: an agent's latest experiences, the best action in a state, an agent's latest policy, one value by name.
-- A state may be longer than an index takes, so it is found by its md5: md5(state) = md5('…') AND state = '…'.
CREATE INDEX <<concurrently>> IF NOT EXISTS rl_experiences_agent ON rl_experiences (agent_id, "timestamp" DESC);
CREATE INDEX <<concurrently>> IF NOT EXISTS rl_q_values_agent ON rl_q_values (agent_id, md5(state), q_value DESC);
CREATE INDEX <<concurrently>> IF NOT EXISTS rl_policies_agent ON rl_policies (agent_id, "timestamp" DESC);
CREATE INDEX <<concurrently>> IF NOT EXISTS rl_agent_metadata_agent ON rl_agent_metadata (agent_id, name);
