// An event, once however often this is run under the same name.
MERGE (e:SegueEvent {collection: $collection, name: $name})
ON CREATE SET e.at = timestamp(), e.kind = $kind, e.text = $sentence, e.data = $data, e.by = $by, e.version = $version
