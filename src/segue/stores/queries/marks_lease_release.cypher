// An owner with nothing on its way leaves.
MATCH (r:SegueRelay {collection: $collection, owner: $owner})
DELETE r
WITH count(*) AS gone
MATCH (l:SegueLease {collection: $collection, owner: $owner})
WITH l ORDER BY l.part
SET l.owner = '', l.until = 0
