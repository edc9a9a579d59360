// The instances whose registration has not lapsed.
MATCH (i:SegueInstance {collection: $collection})
WHERE i.until > timestamp()
RETURN i.name AS name, i.host AS host, i.own AS own, i.epoch AS epoch, coalesce(i.observed_epoch, 0) AS observed_epoch,
  coalesce(i.compared, 0) AS compared, coalesce(i.overlap, 0.0) AS overlap, coalesce(i.answers, 0) AS answers,
  coalesce(i.failed, 0) AS failed
ORDER BY name
