// How many nodes of a kind the protocol keeps for a collection.
MATCH (n:<<labels>> {collection: $collection})
RETURN count(n) AS nodes
