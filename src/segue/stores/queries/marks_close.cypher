// Readers need not look any more: clean, untainted, acknowledged longer ago than the window; looked at again under the lock.
// The window that the control node gives is the one all readers go by.
OPTIONAL MATCH (c:SegueControl {collection: $collection})
WITH timestamp() - coalesce(c.window_ms, $milliseconds) AS before
MATCH (m:SegueOpen {collection: $collection})
WHERE m.part IN $parts AND m.ver = m.acked AND m.taint_until IS NULL AND m.acked_at < before
WITH m, before ORDER BY m.key
SET m.looked_at = timestamp()
WITH m WHERE m.ver = m.acked AND m.taint_until IS NULL AND m.acked_at < before
REMOVE m:SegueOpen
RETURN count(*) AS closed
