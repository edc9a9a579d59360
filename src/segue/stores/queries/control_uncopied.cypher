// What was copied is no more.
MATCH (c:SegueControl {collection: $collection})
REMOVE c.copied, c.copied_at
