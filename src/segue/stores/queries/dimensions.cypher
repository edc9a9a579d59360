// How many nodes of a sample have a vector of which length.
MATCH (n:<<label>>)
WHERE valueType(n.<<vector>>) STARTS WITH 'LIST' OR valueType(n.<<vector>>) STARTS WITH 'VECTOR'
WITH n LIMIT $sample
RETURN size(n.<<vector>>) AS dimension, count(*) AS nodes ORDER BY nodes DESC
