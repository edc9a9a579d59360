// A fresh token for every mark in an interval of keys; the keys that were marked.
MATCH (m:SegueMark {collection: $collection})
WHERE <<bounds>>
WITH m ORDER BY m.key
SET m:SegueOpen,
    m.marked_at = CASE WHEN m.ver = m.acked THEN timestamp() ELSE m.marked_at END,
    m.ver = randomUUID()
RETURN m.key AS key
