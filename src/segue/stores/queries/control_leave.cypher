// An instance ends.
MATCH (i:SegueInstance {collection: $collection, name: $name})
DELETE i
