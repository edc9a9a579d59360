// The items under some keys as they are now, a record each, so that each vector is packed while it is in the cache.
MATCH (n:<<label>>)
WHERE n.<<key>> IN $keys<<typed>>
RETURN [n.<<key>>, null, <<vector>><<properties>>] AS row
