// From here on changes may carry no marks.
MATCH (c:SegueControl {collection: $collection})
REMOVE c.capture, c.capture_token
