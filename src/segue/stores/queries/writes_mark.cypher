// Marks keys in the transaction of the change they speak of, when the control node or the application's own mode wants it;
// by itself, or before the change in one query with it.
OPTIONAL MATCH (c:SegueControl {collection: $collection})
WITH $marks OR coalesce(c.mode, 'neo4j_only') <> 'neo4j_only' AS marking
UNWIND CASE WHEN marking THEN $keys ELSE [] END AS key
MERGE (m:SegueMark {collection: $collection, key: key})
  ON CREATE SET m.part = toInteger(rand() * $partitions), m.ver = '', m.acked = '', m.marked_at = timestamp()
SET m:SegueOpen,
    m.marked_at = CASE WHEN m.ver = m.acked THEN timestamp() ELSE m.marked_at END,
    m.ver = randomUUID()
RETURN collect([key, m.acked]) AS before
