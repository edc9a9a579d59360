// Nodes whose key is missing or of another type than the collection's keys. The test for null stands apart because Neo4j
// 5.26 answers the negated type test from the index over the key, which holds no node without one.
MATCH (n:<<label>>)
WHERE (n.<<key>> IS NULL OR NOT n.<<key>> IS :: <<type>> NOT NULL) AND elementId(n) > $after
RETURN elementId(n) AS element_id, valueType(n.<<key>>) AS type
ORDER BY element_id LIMIT $limit
