"""What Alembic runs first: on the connection it is given, with a version table of its own in the present schema."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="segue_agentdb_version",
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
