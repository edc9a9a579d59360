// Locked marks with the items they speak of, as they are now; a row is as in a page, null where there is no item.
UNWIND $keys AS key
MATCH (m:SegueMark {collection: $collection, key: key})
OPTIONAL MATCH (n:<<label>> {<<key>>: key})
RETURN key, m.ver AS ver, CASE WHEN n IS NULL THEN null ELSE [key, elementId(n), <<vector>><<properties>>] END AS row
