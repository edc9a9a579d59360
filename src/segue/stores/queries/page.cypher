// One page of a range in key order, and its last key as the server orders keys (a gathered page promises no order).
// A row is [key, elementId or null, vector or what stands in its place, properties…].
MATCH (n:<<label>>) <<hint>>
WHERE <<bounds>>
WITH n ORDER BY n.<<key>> LIMIT $limit
RETURN <<gather>>([n.<<key>>, <<element_id>>, <<vector>><<properties>>]) AS rows, <<last>>
