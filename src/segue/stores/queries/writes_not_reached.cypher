// Whether some key is still acknowledged as it was before a write, or its item cannot go; a mark that is gone had been
// acknowledged.
UNWIND $before AS one
MATCH (m:SegueMark {collection: $collection, key: one[0]})
WHERE m.acked = one[1] AND m.ver <> m.acked OR m.quarantined IS NOT NULL
RETURN true AS waiting LIMIT 1
