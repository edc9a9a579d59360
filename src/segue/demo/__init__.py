"""A tour on real servers with real data: an application's films go from Neo4j to Milvus, and both answer the same questions.

Then an agent's state goes from Redis to PostgreSQL, and the agent goes on learning.
"""
