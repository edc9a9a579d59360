// How many nodes lie between two keys.
MATCH (n:<<label>>)
WHERE <<bounds>>
RETURN count(*) AS nodes
