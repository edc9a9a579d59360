-- Rows that are to go, and to stay gone whatever was read before. Parameters: natural keys, times of observation.
WITH asked AS (
    SELECT natural_key, max(observed_at) AS observed_at
    FROM unnest(%s::uuid[], %s::timestamptz[]) AS one (natural_key, observed_at) GROUP BY natural_key
), noted AS (
    INSERT INTO segue_agentdb_gone AS gone (natural_key, observed_at) SELECT * FROM asked
    ON CONFLICT (natural_key) DO UPDATE SET observed_at = greatest(gone.observed_at, excluded.observed_at)
)
DELETE FROM <<table>> held USING asked WHERE held.natural_key = asked.natural_key AND held.observed_at <= asked.observed_at
