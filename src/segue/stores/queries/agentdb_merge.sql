-- A batch into its table: of equal natural keys the newest, and over a row that is there only what was read from Redis later and
-- differs; nothing that was removed later. In the order of the natural key, so that two copies never wait for each other in a circle.
INSERT INTO <<table>> AS held (<<columns>>)
SELECT DISTINCT ON (natural_key) <<columns>> FROM <<staged>> staged
WHERE NOT EXISTS (
    SELECT FROM segue_agentdb_gone gone WHERE gone.natural_key = staged.natural_key AND gone.observed_at >= staged.observed_at)
ORDER BY natural_key, observed_at DESC
ON CONFLICT (<<identity>>) DO UPDATE SET <<assignments>>
WHERE held.observed_at <= excluded.observed_at AND (<<touch>>
    held.content_hash IS DISTINCT FROM excluded.content_hash
    OR (held.expires_at IS NULL) <> (excluded.expires_at IS NULL)
    OR abs(extract(epoch FROM held.expires_at - excluded.expires_at)) > 1)
