-- A write of agents' own into its table, over whatever is there, and later than that, also when a clock was set back.
INSERT INTO <<table>> AS held (<<columns>>)
SELECT <<columns>> FROM <<staged>> ORDER BY natural_key
ON CONFLICT (<<identity>>) DO UPDATE SET <<assignments>>,
    observed_at = greatest(excluded.observed_at, held.observed_at + interval '1 microsecond')
