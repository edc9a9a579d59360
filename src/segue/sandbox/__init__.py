"""Throwaway real servers on loopback: Neo4j, Milvus, Redis, PostgreSQL, Prometheus; for the demo, the tests and the benchmarks.

It owns the servers' installation, processes, passwords and data, and nothing else: it knows no collection, no
configuration file and no store of the product. `docs/sandbox.md` has the coordinates, flags and pitfalls.
"""

from segue.sandbox.endpoint import Endpoint, exports, newest_neo4j
from segue.sandbox.lifecycle import DEFAULT, SERVICES, down, running, up
from segue.sandbox.prometheus_server import evaluate, scrape

__all__ = ["DEFAULT", "SERVICES", "Endpoint", "down", "evaluate", "exports", "newest_neo4j", "running", "scrape", "up"]
