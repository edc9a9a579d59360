// Deletes items with their relationships, then marks them, in the order in which a trigger does it; also the keys that had one.
CALL () {
  UNWIND $keys AS key
  MATCH (n:<<label>> {<<key>>: key})
  DETACH DELETE n
  RETURN collect(DISTINCT key) AS deleted
}
CALL () {
<<mark>>
}
RETURN before, deleted
