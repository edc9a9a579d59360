// Deletes items with their relationships behind their marks; also the keys that had one.
CALL () {
<<mark>>
}
CALL () {
  UNWIND $keys AS key
  MATCH (n:<<label>> {<<key>>: key})
  DETACH DELETE n
  RETURN collect(DISTINCT key) AS deleted
}
RETURN before, deleted
