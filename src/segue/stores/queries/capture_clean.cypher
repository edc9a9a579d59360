// Canaries and their marks are of no further use.
MATCH (c:SegueCanary {collection: $collection})
OPTIONAL MATCH (m:SegueMark {collection: $collection, key: c.key})
DELETE c, m
