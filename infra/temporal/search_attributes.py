"""The search attributes that our workflows set. Missing ones are registered; none is taken for granted."""

from __future__ import annotations

import logging

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from workflows.shown import APP, GPU_ID, TASK_STATUS, TASK_TYPE, USER_ID

log = logging.getLogger(__name__)

WANTED = {key.name: "Keyword" for key in (TASK_STATUS, GPU_ID, USER_ID, APP)} | {TASK_TYPE.name: "Int"}
"""Name → type, in Temporal's words."""
NOT_OURS = {RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED}
"""The answers of a managed service that does not permit the operator API."""


async def register(client: Client) -> None:
    """Add the missing search attributes. Idempotent.

    If that is not permitted the attributes have to exist already. Otherwise the program exits with the commands to run,
    because no workflow could be started. Raises RPCError while Temporal is away.
    """
    for name, kind in WANTED.items():
        value_type = IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{kind.upper()}")
        request = AddSearchAttributesRequest(namespace=client.namespace, search_attributes={name: value_type})
        try:
            await client.operator_service.add_search_attributes(request)
        except RPCError as error:
            if error.status in NOT_OURS:
                await _expect_all(client, error)
                return
            if error.status is not RPCStatusCode.ALREADY_EXISTS:
                raise


async def _expect_all(client: Client, refusal: RPCError) -> None:
    missing = [name for name in WANTED if not await _is_there(client, name)]
    if missing:
        command = f"\n  temporal operator search-attribute create --namespace {client.namespace}"
        commands = "".join(f"{command} --name {name} --type {WANTED[name]}" for name in missing)
        raise SystemExit(f"Temporal lets us add no search attributes ({refusal.message}); add them yourself:{commands}")
    log.info("Temporal does not let us add search attributes (%s); all of them exist", refusal.message)


async def _is_there(client: Client, name: str) -> bool:
    """Whether the attribute exists, found by a query without matches: an unknown name is an error."""
    try:
        await client.count_workflows(f"WorkflowId = '' AND {name} IS NULL")
    except RPCError as error:
        if error.status is RPCStatusCode.INVALID_ARGUMENT:
            return False
        raise
    return True
