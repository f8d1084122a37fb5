"""Record when the cause of an alert has ended: `resolved_at`. Status and acknowledgement stay (ADR 0047)."""

from __future__ import annotations

from collections.abc import Sequence

from infra.db import clock
from infra.db.connection import Connection
from infra.db.ops.health import STUCK_S

# A moment is over at once, also one that a version without ends has raised.
# Of alerts whose state the database has. Alert and state are written in one transaction, so both are seen or neither.
_OF_NODE = "SELECT FROM gpus g WHERE g.gpu_id = {named} AND g.gone_at IS NULL AND {lasts}"
_RESTS = "g.failure_count + g.rests + g.hand_backs > 0"
_REST_OF = "substr(cause, length('rest:' || split_part(cause, ':', 2) || ':') + 1)"
_REPORTED = "SELECT FROM monitor_reports r WHERE r.name = {name} AND {lately}"
_LATELY = {name: clock.recent("r.at", clock.seconds(name)) for name in ("timeout", "stuck")}
_END = f"""
    UPDATE alerts SET resolved_at = clock_timestamp()
     WHERE resolved_at IS NULL AND CASE split_part(cause, ':', 1)
       WHEN 'fault' THEN NOT EXISTS ({_OF_NODE.format(named="substr(cause, 7)", lasts="g.status = 'FAULTY'")})
       WHEN 'offline' THEN NOT EXISTS ({_OF_NODE.format(named="substr(cause, 9)", lasts="g.status = 'OFFLINE'")})
       WHEN 'rest' THEN NOT EXISTS ({_OF_NODE.format(named=_REST_OF, lasts=_RESTS)})
       WHEN 'disk' THEN NOT EXISTS ({_REPORTED.format(name="cause", lately=_LATELY["timeout"])})
       WHEN 'stuck-workflows' THEN NOT EXISTS ({_REPORTED.format(name="'stuck'", lately=_LATELY["stuck"])})
       WHEN 'miscounted' THEN true
       ELSE false END
    """
_END_OTHERS = """
    UPDATE alerts SET resolved_at = clock_timestamp()
     WHERE resolved_at IS NULL AND starts_with(cause, %(kind)s) AND cause <> ALL (%(lasting)s)
    """


async def end(connection: Connection, instance_timeout_s: float) -> None:
    """Resolve the alerts of nodes, disks and stuck workflows that are well again."""
    await connection.execute(_END, {"timeout": instance_timeout_s, "stuck": STUCK_S})


async def end_others(connection: Connection, kind: str, lasting: Sequence[str] = ()) -> None:
    """Resolve the alerts whose cause begins with `kind`, but those that last."""
    await connection.execute(_END_OTHERS, {"kind": kind, "lasting": list(lasting)})
