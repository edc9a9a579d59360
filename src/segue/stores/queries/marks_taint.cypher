// A request for these keys may still land until then; until the sweep has given them a fresh token they count as tainted.
UNWIND $keys AS key
MATCH (m:SegueMark {collection: $collection, key: key})
WITH m ORDER BY m.key
SET m:SegueOpen, m.taint_until = CASE
  WHEN coalesce(m.taint_until, 0) > timestamp() + $milliseconds THEN m.taint_until ELSE timestamp() + $milliseconds END
RETURN count(*) AS tainted
