// The instances whose registration has not lapsed.
MATCH (i:SegueInstance {collection: $collection})
WHERE i.until > timestamp()
RETURN i.name AS name, i.host AS host, i.own AS own, i.epoch AS epoch ORDER BY name
