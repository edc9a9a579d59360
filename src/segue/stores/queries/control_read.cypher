// The control node; nulls when there is none.
OPTIONAL MATCH (c:SegueControl {collection: $collection})
RETURN <<fields>>
