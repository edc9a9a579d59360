// The control node, every open mark up to one more than $most, and the items of those not acknowledged; one record.
// Gathering the marks before the items are looked for is what makes every item at least as new as its mark.
OPTIONAL MATCH (c:SegueControl {collection: $collection})
WITH [<<control>>] AS control
CALL () {
  MATCH (m:SegueOpen {collection: $collection})
  WITH m LIMIT $most + 1
  RETURN collect([m.key, m.ver, m.ver = m.acked]) AS found
}
WITH control, size(found) > $most AS too_many, CASE WHEN size(found) > $most THEN [] ELSE found END AS marks
CALL (marks) {
  UNWIND [mark IN marks WHERE NOT mark[2] | mark[0]] AS key
  MATCH (n:<<label>> {<<key>>: key}) <<typed>>
  RETURN collect([key, elementId(n), <<vector>><<properties>>]) AS rows
}
RETURN control, too_many, marks, rows
