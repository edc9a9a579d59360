// Whether the canary was marked.
MATCH (m:SegueMark {collection: $collection, key: $key})
RETURN m.key AS key
