// A write that the trigger must mark, and that no application reads.
CREATE (:SegueCanary {collection: $collection, key: $key})
