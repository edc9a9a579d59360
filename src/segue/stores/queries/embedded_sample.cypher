// A few nodes with a vector, whichever come first.
MATCH (n:<<label>>)
WHERE n.<<vector>> IS NOT NULL AND n.<<key>> IS NOT NULL
RETURN n.<<key>> AS key, n.<<vector>> AS vector LIMIT $limit
