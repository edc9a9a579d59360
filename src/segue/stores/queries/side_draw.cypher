// Keys of a label, each drawn with the same probability, by strata: how many there are in each, and those drawn. A pass over
// the label itself, which no index over the key serves.
MATCH (n:<<label>>) USING SCAN n:<<label>>
WHERE n.<<key>> IS :: <<type>> NOT NULL
WITH n.<<key>> AS key
WITH key, size([bound IN $bounds WHERE key > bound]) AS stratum
RETURN stratum, count(*) AS items, collect(CASE WHEN rand() < $share THEN key END) AS drawn
