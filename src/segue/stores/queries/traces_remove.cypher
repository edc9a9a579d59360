// Remove some nodes of a kind; how many went.
MATCH (n:<<labels>> {collection: $collection})
WITH n LIMIT $limit
DELETE n
RETURN count(*) AS gone
