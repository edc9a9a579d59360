// How many nodes of a sample have a vector of which length.
MATCH (n:<<label>>)
WHERE n.<<vector>> IS NOT NULL
WITH n LIMIT $sample
RETURN size(n.<<vector>>) AS dimension, count(*) AS nodes ORDER BY nodes DESC
