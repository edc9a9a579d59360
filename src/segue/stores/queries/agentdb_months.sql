-- The months of a batch that may need a partition of their own.
SELECT DISTINCT to_char(date_trunc('month', "timestamp" AT TIME ZONE 'UTC'), 'YYYY-MM-DD')
FROM <<staged>> WHERE "timestamp" >= '2000-01-01Z' AND "timestamp" < '2100-01-01Z'
