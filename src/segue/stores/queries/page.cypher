// One page of a range in key order; a row is [key, elementId or null, vector or what stands in its place, properties…].
MATCH (n:<<label>>)
WHERE <<bounds>>
WITH n ORDER BY n.<<key>> LIMIT $limit
RETURN <<gather>>([n.<<key>>, <<element_id>>, <<vector>><<properties>>]) AS rows
