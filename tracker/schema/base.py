"""What all tables share: one metadata, whose constraints have names, as migrations need them."""

from __future__ import annotations

from sqlmodel import SQLModel

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

# Table classes do not validate, so their validators need not be built, which costs time and memory at every start.
SQLModel.model_config["defer_build"] = True

METADATA = SQLModel.metadata
