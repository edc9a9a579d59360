"""A tour on real servers with real data: an application's films go from Neo4j to Milvus, and both answer the same questions."""
