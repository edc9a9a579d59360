// Closed marks that nobody needs any more go, in key order; looked at again under the lock.
// The label goes off and on again because that takes the mark's place in the unique index: a writer's MERGE waits there and
// makes a new mark, where it would otherwise find this one, wait for it to be deleted, and fail.
MATCH (m:SegueMark {collection: $collection}) USING INDEX m:SegueMark(collection, key)
WHERE m.key IS NOT NULL AND NOT m:SegueOpen AND m.part IN $parts AND m.ver = m.acked AND m.taint_until IS NULL
WITH m ORDER BY m.key LIMIT $limit
REMOVE m:SegueMark
SET m:SegueMark, m.looked_at = timestamp()
WITH m WHERE NOT m:SegueOpen AND m.ver = m.acked AND m.taint_until IS NULL
DELETE m
RETURN count(*) AS pruned
