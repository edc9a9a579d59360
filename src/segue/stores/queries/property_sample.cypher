// The properties of a sample of a label's nodes: on how many, and of which value types.
MATCH (n:<<label>>)
WITH n LIMIT $sample
UNWIND keys(n) AS property
RETURN property, count(*) AS nodes, collect(DISTINCT valueType(n[property])) AS types
ORDER BY property
