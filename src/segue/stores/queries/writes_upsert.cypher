// Writes items, then their marks, in the order in which a trigger does it: the other way round the two would wait for each other
// in a circle. Items are made where they are missing, and keep the properties that are not named.
CALL () {
  UNWIND $rows AS row
  MERGE (n:<<label>> {<<key>>: row.key})
  SET n.<<vector>> = row.vector, n += row.properties
  RETURN count(*) AS written
}
CALL () {
<<mark>>
}
RETURN before
