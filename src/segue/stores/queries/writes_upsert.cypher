// Writes items behind their marks; they are made where they are missing, and keep the properties that are not named.
CALL () {
<<mark>>
}
CALL () {
  UNWIND $rows AS row
  MERGE (n:<<label>> {<<key>>: row.key})
  SET n.<<vector>> = row.vector, n += row.properties
  RETURN count(*) AS written
}
RETURN before
