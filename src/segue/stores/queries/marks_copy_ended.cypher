// A copy made under a capture is complete, and nothing of it is in flight.
MERGE (c:SegueControl {collection: $collection})
SET c.copying = false, c.copied = $capture, c.copied_at = timestamp()
