// An instance ends: it lapses at once, or is deleted where nothing that it observed counts any more.
MATCH (i:SegueInstance {collection: $collection, name: $name})
OPTIONAL MATCH (c:SegueControl {collection: $collection})
WITH i, coalesce(i.observed_epoch = c.epoch AND i.compared + i.answers > 0, false) AS counts
SET i.until = 0
WITH i WHERE NOT counts
DELETE i
