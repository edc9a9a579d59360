// Nodes whose key is missing or of another type than the collection's keys.
MATCH (n:<<label>>)
WHERE NOT n.<<key>> IS :: <<type>> NOT NULL AND elementId(n) > $after
RETURN elementId(n) AS element_id, valueType(n.<<key>>) AS type
ORDER BY element_id LIMIT $limit
