"""What is looked at before anything moves: one check a file, in the order of `CHECKS`; `running.run` makes them.

Changes nothing but what `rehearsal` makes and drops again. Knows ports only; what comes of it is noted by whoever calls.
"""

from __future__ import annotations

from segue.phases.preflight import (
    agent_dangers,
    agent_privileges,
    authentication,
    clock,
    connection,
    disk,
    items,
    key,
    kubernetes_permissions,
    limits,
    memory,
    milvus_capacity,
    milvus_health,
    milvus_privileges,
    neo4j_privileges,
    neo4j_procedures,
    prediction,
    quarantine,
    rehearsal,
    state_file,
    target,
    texts,
    tls,
    triggers,
    vector_index,
    vectors,
    version,
)

CHECKS = (
    connection.CHECK,
    authentication.CHECK,
    version.CHECK,
    tls.CHECK,
    clock.CHECK,
    neo4j_privileges.CHECK,
    neo4j_procedures.CHECK,
    triggers.CHECK,
    milvus_health.CHECK,
    milvus_capacity.CHECK,
    milvus_privileges.CHECK,
    agent_privileges.CHECK,
    agent_dangers.CHECK,
    kubernetes_permissions.CHECK,
    state_file.CHECK,
    vector_index.CHECK,
    items.CHECK,
    key.CHECK,
    vectors.CHECK,
    texts.CHECK,
    quarantine.CHECK,
    target.CHECK,
    limits.CHECK,
    disk.CHECK,
    memory.CHECK,
    rehearsal.CHECK,
    prediction.CHECK,
)
"""Every check, those of the stores first."""
