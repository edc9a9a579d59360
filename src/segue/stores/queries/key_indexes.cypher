// Range indexes over one property of a label, with the constraint that owns them, if any.
SHOW INDEXES YIELD type, state, entityType, labelsOrTypes, properties, owningConstraint
WHERE type = 'RANGE' AND state = 'ONLINE' AND entityType = 'NODE' AND labelsOrTypes = [$label]
RETURN properties, owningConstraint IS NOT NULL AS unique
