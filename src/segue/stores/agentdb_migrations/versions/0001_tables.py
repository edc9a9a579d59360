"""The four tables, each with the unique natural key under which writing twice is writing once; and those of live traffic."""

from __future__ import annotations

from alembic import op

from segue.stores.sql import statements

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make what is missing."""
    config = op.get_context().config
    monthly = config is not None and config.attributes["monthly"]
    for name in ("agentdb_experiences_monthly" if monthly else "agentdb_experiences", "agentdb_tables", "agentdb_live"):
        for statement in statements(name):
            op.execute(statement)
