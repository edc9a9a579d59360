// Whatever could still land has landed: a fresh token, so that the key is written once more.
MATCH (m:SegueOpen {collection: $collection})
WHERE m.part IN $parts AND m.taint_until <= timestamp()
WITH m ORDER BY m.key
SET m.looked_at = timestamp()
WITH m WHERE m.taint_until <= timestamp()
SET m.marked_at = CASE WHEN m.ver = m.acked THEN timestamp() ELSE m.marked_at END,
    m.ver = randomUUID(), m.taint_until = null
RETURN count(*) AS cured
