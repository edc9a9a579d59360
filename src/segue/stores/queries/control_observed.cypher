// What all instances have seen of the sink in the present epoch, also those that lapsed.
OPTIONAL MATCH (c:SegueControl {collection: $collection})
OPTIONAL MATCH (i:SegueInstance {collection: $collection}) WHERE i.observed_epoch = c.epoch
RETURN sum(i.compared) AS compared, sum(i.overlap) AS overlap, sum(i.answers) AS answers, sum(i.failed) AS failed
