"""Alembic migrations of the controller's database; `database.upgrade` runs them."""
