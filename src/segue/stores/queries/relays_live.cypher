// The relays of a collection whose registration has not lapsed.
MATCH (r:SegueRelay {collection: $collection})
WHERE r.until > timestamp()
RETURN r.owner AS owner ORDER BY owner
