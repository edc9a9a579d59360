// Every vector index of the database with its settings.
SHOW VECTOR INDEXES YIELD name, state, entityType, labelsOrTypes, properties, options
RETURN name, state, entityType, labelsOrTypes AS labels, properties, options.indexConfig AS settings
ORDER BY name
