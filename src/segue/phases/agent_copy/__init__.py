"""The copy of agent state from Redis to PostgreSQL: scan, read, decode, write, record. Begin at `AgentCopy.run` in `run`.

The way of a page is one line: source.scan → source.read → codec.decode → sink.write → state.record. One thread reads and
decodes, another writes and records, with a few batches between them, so memory is bounded whatever the keyspace's size. The
cursor moves only behind rows that PostgreSQL has acknowledged; whatever is killed is done again from there, and rows that are
there already make that harmless. Knows ports only: no store, no terminal, no file.
"""

from segue.phases.agent_copy.job import COLLECTION, KEYS_A_PAGE, AgentJob, AgentOutcome, AgentPreview, MappingPreview
from segue.phases.agent_copy.run import AgentCopy

__all__ = ["COLLECTION", "KEYS_A_PAGE", "AgentCopy", "AgentJob", "AgentOutcome", "AgentPreview", "MappingPreview"]
