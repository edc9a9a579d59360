// Register an instance, or renew it; one that lapsed long ago is forgotten on the way, by whoever comes first.
MERGE (i:SegueInstance {collection: $collection, name: $name})
SET i.host = $host, i.own = $own, i.epoch = $epoch, i.until = timestamp() + $milliseconds
WITH i
OPTIONAL MATCH (gone:SegueInstance {collection: $collection}) WHERE gone.until < timestamp() - 10 * $milliseconds
WITH i, gone ORDER BY gone.name
DELETE gone
