// The sink holds what each key was under the token seen, or no row of it and why, if it still is that token; the label stays
// for the sweep.
// A row for each, with the milliseconds since it became dirty.
UNWIND $seen AS one
MATCH (m:SegueMark {collection: $collection, key: one.key})
WITH m, one ORDER BY m.key
SET m.looked_at = timestamp()
WITH m, one WHERE m.ver = one.ver
SET m.acked = one.ver, m.acked_at = timestamp(), m.quarantined = one.quarantined
RETURN timestamp() - m.marked_at AS lag
