// Properties of a label that a uniqueness constraint of their own guards.
SHOW CONSTRAINTS YIELD type, entityType, labelsOrTypes, properties
WHERE type IN ['UNIQUENESS', 'NODE_PROPERTY_UNIQUENESS', 'NODE_KEY'] AND entityType = 'NODE'
  AND labelsOrTypes = [$label] AND size(properties) = 1
RETURN properties[0] AS property ORDER BY property
