// Keys that more than one node has.
MATCH (n:<<label>>)
WHERE n.<<key>> IS NOT NULL
WITH n.<<key>> AS key, count(*) AS nodes
WHERE nodes > 1
RETURN key, nodes ORDER BY nodes DESC, key LIMIT $limit
