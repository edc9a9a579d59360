// Lock marks in key order; writing any property takes the lock until the transaction ends.
UNWIND $keys AS key
MATCH (m:SegueMark {collection: $collection, key: key})
WITH m ORDER BY m.key
SET m.looked_at = timestamp()
