// What a former owner of these partitions may still have on its way: every dirty key is tainted.
MATCH (m:SegueOpen {collection: $collection})
WHERE m.part IN $parts
WITH m ORDER BY m.key
SET m.looked_at = timestamp()
WITH m WHERE m.ver <> m.acked
SET m.taint_until = CASE
  WHEN coalesce(m.taint_until, 0) > timestamp() + $milliseconds THEN m.taint_until ELSE timestamp() + $milliseconds END
RETURN count(*) AS tainted
