// All events of a collection, oldest first.
MATCH (e:SegueEvent {collection: $collection})
RETURN e.kind, e.text, e.data, e.at, e.by, e.version
ORDER BY e.at, e.name
