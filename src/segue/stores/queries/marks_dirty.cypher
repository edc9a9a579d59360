// Keys whose sink copy is out of date, of some partitions, the longest waiting first.
MATCH (m:SegueOpen {collection: $collection})
WHERE m.part IN $parts AND m.ver <> m.acked
RETURN m.key AS key ORDER BY m.marked_at LIMIT $limit
