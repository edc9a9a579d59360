// From here on no mark is pruned.
MERGE (c:SegueControl {collection: $collection})
SET c.copying = true
