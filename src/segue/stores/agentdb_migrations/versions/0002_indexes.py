"""The indexes that agents' queries use, built behind the first copy and beside writers."""

from __future__ import annotations

from alembic import op

from segue.stores.sql import statements

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Build what is missing; a partitioned table's indexes cannot be built concurrently."""
    config = op.get_context().config
    monthly = config is not None and config.attributes["monthly"]
    with op.get_context().autocommit_block():
        for statement in statements("agentdb_indexes", concurrently="CONCURRENTLY"):
            partitioned = monthly and "rl_experiences" in statement
            op.execute(statement.replace("CONCURRENTLY ", "") if partitioned else statement)
