// The properties of a sample of a label's nodes: on how many, of how many, and of which value types.
MATCH (n:<<label>>)
WITH n LIMIT $sample
WITH collect(n) AS sampled
UNWIND sampled AS n
UNWIND keys(n) AS property
RETURN property, size(sampled) AS sampled, count(*) AS nodes, collect(DISTINCT valueType(n[property])) AS types
ORDER BY property
