// Readers need not look any more: clean, untainted, acknowledged longer ago than the window; looked at again under the lock.
MATCH (m:SegueOpen {collection: $collection})
WHERE m.part IN $parts AND m.ver = m.acked AND m.taint_until IS NULL AND m.acked_at < timestamp() - $milliseconds
WITH m ORDER BY m.key
SET m.looked_at = timestamp()
WITH m WHERE m.ver = m.acked AND m.taint_until IS NULL AND m.acked_at < timestamp() - $milliseconds
REMOVE m:SegueOpen
RETURN count(*) AS closed
