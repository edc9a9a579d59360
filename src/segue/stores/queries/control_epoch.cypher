// The mode, and the epoch whatever else the control node says; 0 where it says none that is a number.
MATCH (c:SegueControl {collection: $collection})
RETURN toStringOrNull(c.mode) AS mode, coalesce(toIntegerOrNull(c.epoch), 0) AS epoch
