// Register an instance, or renew it. On the way whoever comes first forgets those that lapsed long ago, unless what they observed
// still counts: it is of the present epoch.
MERGE (i:SegueInstance {collection: $collection, name: $name})
SET i.host = $host, i.own = $own, i.epoch = $epoch, i.until = timestamp() + $milliseconds,
    i.observed_epoch = $observed_epoch, i.compared = $compared, i.overlap = $overlap, i.answers = $answers, i.failed = $failed
WITH i
OPTIONAL MATCH (c:SegueControl {collection: $collection})
OPTIONAL MATCH (gone:SegueInstance {collection: $collection})
WHERE gone.until < timestamp() - 10 * $milliseconds
  AND NOT (coalesce(gone.observed_epoch = c.epoch, false) AND gone.compared + gone.answers > 0)
WITH i, gone ORDER BY gone.name
DELETE gone
