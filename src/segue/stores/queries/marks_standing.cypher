// How the marks of some keys stand; a key without one has no row.
UNWIND $keys AS key
MATCH (m:SegueMark {collection: $collection, key: key})
RETURN key, m.ver AS ver, m.ver = m.acked AND m.taint_until IS NULL AS settled, m:SegueOpen AS open
