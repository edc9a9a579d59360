// Lock every lease in order, register the owner as alive; the leases, the live owners, the clock.
MERGE (r:SegueRelay {collection: $collection, owner: $owner})
SET r.until = timestamp() + $milliseconds
WITH r
UNWIND range(0, $partitions - 1) AS part
MERGE (l:SegueLease {collection: $collection, part: part})
  ON CREATE SET l.owner = '', l.until = 0
WITH l ORDER BY l.part
SET l.looked_at = timestamp()
WITH l
CALL () {
  MATCH (r:SegueRelay {collection: $collection}) WHERE r.until > timestamp()
  RETURN count(*) AS live
}
RETURN l.part AS part, l.owner AS owner, l.until AS until, live, timestamp() AS now ORDER BY part
