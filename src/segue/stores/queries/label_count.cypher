// How many nodes are under a label; the store keeps the count.
MATCH (n:<<label>>)
RETURN count(n) AS nodes
