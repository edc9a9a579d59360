"""Segue moves a live service's vector search from Neo4j to Milvus. The library's public names, nothing else."""

__version__ = "0.1.0"

__all__ = ["__version__"]
