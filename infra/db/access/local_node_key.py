"""The key of a stack's own nodes: a node's key that they share, so that their gpuIds belong to one lineage."""

from __future__ import annotations

from collections.abc import Sequence

from infra.db.access import api_keys, callers
from infra.db.access.api_keys import NewKey
from infra.db.access.audit import BY_ITSELF
from infra.db.connection import Connection
from workflows.domain.role import Role

_LIVE = "SELECT key_id FROM api_keys WHERE owner = %(owner)s AND role = 'node' AND revoked_at IS NULL"
_ADOPT = "UPDATE gpus SET lineage = %(lineage)s WHERE gpu_id = ANY (%(gpu_ids)s) AND lineage IS NULL"


async def ensure_key(connection: Connection, kept: str, owner: str, gpu_ids: Sequence[str]) -> str:
    """The kept secret if it is a live node's key, otherwise a new one for this owner.

    GPUs that an administrator's key registered under these ids belong to it from now on.
    """
    caller = await callers.find(connection, kept)
    if caller is None or caller.role is not Role.NODE:
        kept = await _made(connection, owner)
        caller = await callers.find(connection, kept)
    assert caller is not None
    await connection.execute(_ADOPT, {"lineage": caller.lineage, "gpu_ids": list(gpu_ids)})
    return kept


async def _made(connection: Connection, owner: str) -> str:
    """Make a key. A lost one is revoked first, so that it is useless and its gpuIds are free for the new one."""
    for key_id in await connection.all(str, _LIVE, {"owner": owner}):
        await api_keys.revoke(connection, key_id, BY_ITSELF)
    return (await api_keys.create(connection, NewKey(Role.NODE, owner, note="the stack's own nodes"), BY_ITSELF)).secret
