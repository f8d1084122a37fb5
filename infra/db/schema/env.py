"""Alembic's environment: the program runs the migrations itself (`gpu-orchestrator migrate`)."""

from __future__ import annotations

from typing import Any

from alembic import context


def _applied(ctx: Any, step: Any, heads: Any, run_args: Any) -> None:
    if (on_applied := context.config.attributes.get("on_applied")) is not None and not step.is_stamp:
        on_applied(step.up_revision_id)


def _migrate() -> None:
    context.configure(
        connection=context.config.attributes["connection"],
        version_table=context.config.attributes["table"],
        transaction_per_migration=True,
        on_version_apply=_applied,
    )
    with context.begin_transaction():
        context.run_migrations()


_migrate()
