-- A batch of rows as Redis makes them against those that are there, value by value; sums of both sides' content hashes.
WITH wanted AS (
    SELECT DISTINCT ON (natural_key) * FROM <<staged>> ORDER BY natural_key, observed_at DESC
), paired AS (
    SELECT w.natural_key, w.source_key, w.content_hash AS wanted_hash, h.content_hash AS held_hash, h.natural_key IS NULL AS missing,
        array_remove(ARRAY[<<fields>>], NULL) AS fields
    FROM wanted w LEFT JOIN <<table>> h ON h.natural_key = w.natural_key <<and_time>>
)
SELECT count(*), coalesce(sum(<<wanted_digest>>), 0), coalesce(sum(<<held_digest>>), 0),
    coalesce(jsonb_agg(jsonb_build_array(replace(natural_key::text, '-', ''), source_key, missing, fields))
        FILTER (WHERE missing OR cardinality(fields) > 0), '[]')
FROM paired
