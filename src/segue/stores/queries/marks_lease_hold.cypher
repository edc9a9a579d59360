// Hold some partitions until a time, give others up.
MATCH (l:SegueLease {collection: $collection})
WHERE l.part IN $kept OR l.part IN $given
SET l.owner = CASE WHEN l.part IN $kept THEN $owner ELSE '' END,
    l.until = CASE WHEN l.part IN $kept THEN $until ELSE 0 END
