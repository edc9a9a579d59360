// Lock the control node, made if there is none; writing any property takes the lock until the transaction ends.
MERGE (c:SegueControl {collection: $collection})
SET c.looked_at = timestamp()
