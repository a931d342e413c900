"""The rows: what writes them, each in one transaction, and what reads them without SQLAlchemy."""
