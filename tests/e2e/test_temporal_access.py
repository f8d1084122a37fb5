"""Mutual TLS to Temporal by only the SDK's variables, and a Temporal that lets us add no search attributes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from infra.settings import Settings
from infra.temporal import access, gateway, search_attributes
from tests.conftest import eventually
from workers.stack.stack import Stack


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def guarded(stack: Stack, tmp_path: Path) -> AsyncIterator[tuple[Settings, Path]]:
    """A place that leads to the stack's Temporal and takes only those with a certificate of its CA."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    authority.configure_trust(context)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    client = authority.issue_cert("worker@example.org")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    client.private_key_pem.write_to_path(tmp_path / "client.key")
    for blob in client.cert_chain_pems:
        blob.write_to_path(tmp_path / "client.pem", append=True)
    host, port = stack.services.temporal_address.split(":")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield Settings(temporal_address=f"127.0.0.1:{server.sockets[0].getsockname()[1]}"), tmp_path
    server.close()


async def test_mutual_tls(guarded: tuple[Settings, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    settings, folder = guarded
    monkeypatch.setenv("TEMPORAL_TLS_SERVER_CA_CERT_PATH", str(folder / "ca.pem"))
    with pytest.raises(RuntimeError):
        await access.connect(settings, lazy=False)
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_CERT_PATH", str(folder / "client.pem"))
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_KEY_PATH", str(folder / "client.key"))
    client = await access.connect(settings, lazy=False)
    await gateway.TemporalGateway(client, settings).ping()


@dataclass
class Managed:
    """A client of a managed service: what a namespace's owner may not do is refused."""

    client: Client
    status: RPCStatusCode

    @property
    def namespace(self) -> str:
        return self.client.namespace

    @property
    def operator_service(self) -> Managed:
        return self

    async def add_search_attributes(self, _: Any) -> None:
        raise RPCError("Request unauthorized.", self.status, b"")

    async def count_workflows(self, query: str) -> Any:
        return await self.client.count_workflows(query)


async def test_a_managed_service_needs_its_search_attributes_added_by_hand(temporal: Client, stack: Stack) -> None:
    week = Duration(seconds=int(timedelta(days=7).total_seconds()))
    request = RegisterNamespaceRequest(namespace="managed", workflow_execution_retention_period=week)
    await temporal.workflow_service.register_namespace(request)
    client = await Client.connect(stack.services.temporal_address, namespace="managed")

    async def known() -> bool:
        try:
            await client.count_workflows("WorkflowId = ''")
        except RPCError:
            return False
        return True

    await eventually(known, within=60)
    managed: Any = Managed(client, RPCStatusCode.PERMISSION_DENIED)
    with pytest.raises(SystemExit) as exit_:
        await search_attributes.register(managed)
    for name, kind in search_attributes.WANTED.items():
        assert f"search-attribute create --namespace managed --name {name} --type {kind}" in str(exit_.value)
    await search_attributes.register(client)

    async def goes_on() -> bool:
        try:
            await search_attributes.register(managed)
        except SystemExit:
            return False
        return True

    await eventually(goes_on, within=60)


async def test_an_engine_that_is_away_is_no_managed_service(temporal: Client) -> None:
    away: Any = Managed(temporal, RPCStatusCode.UNAVAILABLE)
    with pytest.raises(RPCError):
        await search_attributes.register(away)
