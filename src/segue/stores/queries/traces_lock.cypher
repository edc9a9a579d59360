// Lock the control node, if there is one, and read its mode.
MATCH (c:SegueControl {collection: $collection})
SET c.looked_at = timestamp()
RETURN c.mode AS mode, c.epoch AS epoch
