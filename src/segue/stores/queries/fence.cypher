// The control node, every open mark, and the items of those not acknowledged; one record. None of them when there are more
// than $most, or more than $most_dirty that are not acknowledged.
// Marks come as columns, which are cheaper to decode than a list a mark. Gathering them before the items are looked for
// is what makes every item at least as new as its mark.
OPTIONAL MATCH (c:SegueControl {collection: $collection})
WITH [<<control>>] AS control
CALL () {
  MATCH (m:SegueOpen {collection: $collection})
  WITH m LIMIT $most + 1
  RETURN collect(m.key) AS keys, collect(m.ver) AS versions, collect(m.ver = m.acked) AS acknowledged
}
WITH control, size(keys) > $most OR size([one IN acknowledged WHERE NOT one]) > $most_dirty AS too_many, keys, versions, acknowledged
WITH control, too_many,
     CASE WHEN too_many THEN [] ELSE keys END AS keys,
     CASE WHEN too_many THEN [] ELSE versions END AS versions,
     CASE WHEN too_many THEN [] ELSE acknowledged END AS acknowledged
CALL (keys, acknowledged) {
  UNWIND [place IN range(0, size(keys) - 1) WHERE NOT acknowledged[place] | keys[place]] AS key
  MATCH (n:<<label>> {<<key>>: key}) <<typed>>
  RETURN collect([key, elementId(n), <<vector>><<properties>>]) AS rows
}
RETURN control, too_many, keys, versions, acknowledged, rows
