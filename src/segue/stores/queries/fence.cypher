// The control node, every open mark, and the items of those not acknowledged; one record. None of them when there are more
// than $most, or more than $most_dirty that are not acknowledged.
// Marks come as columns, which are cheaper to decode than a list a mark. Gathering them before the items are looked for
// is what makes every item at least as new as its mark.
OPTIONAL MATCH (c:SegueControl {collection: $collection})
WITH [<<control>>] AS control
CALL () {
  MATCH (m:SegueOpen {collection: $collection})
  WITH m LIMIT $most + 1
  RETURN collect(m.key) AS keys, collect(m.ver) AS versions, collect(CASE WHEN m.ver = m.acked THEN null ELSE m.key END) AS dirty
}
WITH control, size(keys) > $most OR size(dirty) > $most_dirty AS too_many, keys, versions, dirty
WITH control, too_many,
     CASE WHEN too_many THEN [] ELSE keys END AS keys,
     CASE WHEN too_many THEN [] ELSE versions END AS versions,
     CASE WHEN too_many THEN [] ELSE dirty END AS dirty
CALL (dirty) {
  UNWIND dirty AS key
  MATCH (n:<<label>> {<<key>>: key}) <<typed>>
  RETURN collect([key, elementId(n), <<vector>><<properties>>]) AS rows
}
RETURN control, too_many, keys, versions, dirty, rows
