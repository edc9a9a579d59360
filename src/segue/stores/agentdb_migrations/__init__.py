"""The migrations of the tables of agent state, run by Alembic; what they do is SQL beside the stores."""
