// One pass over a label that reads no vector (count() would): how many nodes, how many with a vector, the keys' types, the carried properties' types.
MATCH (n:<<label>>)
RETURN count(*) AS total,
       sum(CASE WHEN n.<<vector>> IS NOT NULL THEN 1 ELSE 0 END) AS embedded,
       sum(CASE WHEN n.<<key>> IS :: STRING NOT NULL THEN 1 ELSE 0 END) AS strings,
       sum(CASE WHEN n.<<key>> IS :: INTEGER NOT NULL THEN 1 ELSE 0 END) AS integers,
       tail([count(*)<<types>>]) AS types
