// Mark keys that nobody changed, so that the relay makes them equal; in key order, like every lock on marks.
UNWIND $keys AS key
WITH key ORDER BY key
MERGE (m:SegueMark {collection: $collection, key: key})
  ON CREATE SET m.part = toInteger(rand() * $partitions), m.ver = '', m.acked = '', m.marked_at = timestamp()
SET m:SegueOpen,
    m.marked_at = CASE WHEN m.ver = m.acked THEN timestamp() ELSE m.marked_at END,
    m.ver = randomUUID()
