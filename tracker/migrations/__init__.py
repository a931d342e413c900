"""Alembic's migrations: the only thing that makes or changes tables and views."""

SCHEMA_VERSION = 7
"""The number of the newest migration; in a SQLite file it stands in ``PRAGMA user_version``."""
