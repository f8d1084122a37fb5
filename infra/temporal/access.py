"""Access to Temporal: TLS, API key and namespace come from the SDK's own environment configuration.

The variables TEMPORAL_TLS…, TEMPORAL_API_KEY, TEMPORAL_NAMESPACE and TEMPORAL_GRPC_META_… count. A configuration file
counts only if TEMPORAL_PROFILE or TEMPORAL_CONFIG_FILE asks for one: a profile for the `temporal` command in a user's
home is not meant for us. The address is ORCHESTRATOR_TEMPORAL_ADDRESS and nothing else: it also says that Temporal is
not embedded, and where no node may be.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from temporalio.api.failure.v1 import Failure
from temporalio.client import Client, GrpcCompression, Interceptor
from temporalio.converter import DataConverter, DefaultFailureConverter, PayloadConverter
from temporalio.envconfig import ClientConfig, ClientConnectConfig
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.service import RPCError, RPCStatusCode, TLSConfig

from infra import telemetry
from infra.environment import hosts
from infra.environment.bad_settings import BadSettings
from infra.settings import ENV_PREFIX, Settings

T = TypeVar("T")

VARIABLES = "TEMPORAL_"
FILE_VARIABLES = ("TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE")


class WordlessFailures(DefaultFailureConverter):
    """Failures for histories: of an error that is not Temporal's own only the type and the stack are kept.

    Its message, and those of its causes, may quote what a node answered or what the database was given. The worker's
    log has them.
    """

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        if not isinstance(exception, FailureError):
            kind = type(exception).__name__
            exception = ApplicationError(_kind(exception), type=kind).with_traceback(exception.__traceback__)
        super().to_failure(exception, payload_converter, failure)


def _kind(error: BaseException) -> str:
    """The error's type, with Postgres' code if it has one."""
    code = getattr(error, "sqlstate", None)
    return f"{type(error).__name__} {code}" if code else type(error).__name__


DATA_CONVERTER = replace(DataConverter.default, failure_converter_class=WordlessFailures)
"""The production converter: our messages are plain dataclasses."""
NO_ANSWER = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})


class TemporalAway(Exception):
    """Temporal did not answer, or not as it should."""


class NoSuchWorkflow(Exception):
    """No workflow of this id runs."""


def is_away(error: BaseException) -> bool:
    """Whether an error of the client means that Temporal is away. A RuntimeError means that it cannot connect."""
    return error.status in NO_ANSWER if isinstance(error, RPCError) else isinstance(error, RuntimeError)


async def connect(settings: Settings, *, lazy: bool = True) -> Client:
    """A client. A lazy one connects on first use, so that a program starts while Temporal is away.

    Raises what `options` raises, and BadSettings for options that the SDK refuses.
    """
    try:
        return await Client.connect(
            **options(settings),
            data_converter=DATA_CONVERTER,
            interceptors=interceptors(),
            grpc_compression=GrpcCompression.NONE,  # our messages are a few hundred bytes; both ends would pay for it
            lazy=lazy,
        )
    except ValueError as error:
        raise BadSettings(f"{ENV_PREFIX}TEMPORAL_ADDRESS or {VARIABLES}… can't be used: {error}") from error


def interceptors() -> list[Interceptor]:
    """Temporal's own tracing, for the client and its workers; empty if traces are not exported."""
    if not telemetry.is_on():
        return []
    from temporalio.contrib.opentelemetry import TracingInterceptor

    return [TracingInterceptor(telemetry.tracer())]


def options(settings: Settings) -> ClientConnectConfig:
    """Arguments of `Client.connect`. Raises BadSettings if the address is unset or the configuration unreadable."""
    if settings.temporal_address is None:
        raise BadSettings(f"{ENV_PREFIX}TEMPORAL_ADDRESS must be set (`gpu-orchestrator run` does so by itself)")
    found = _configured()
    _check(found)
    found["target_host"] = settings.temporal_address
    if "namespace" not in found or "temporal_namespace" in settings.model_fields_set:
        found["namespace"] = settings.temporal_namespace
    return found


def _configured() -> ClientConnectConfig:
    asked_for_file = any(os.environ.get(name) for name in FILE_VARIABLES)
    try:
        return ClientConfig.load_client_connect_config(disable_file=not asked_for_file, override_env_vars=_variables())
    except Exception as error:  # the bridge's ConfigError is no public name; files raise OSError
        raise BadSettings(f"Temporal's environment configuration ({VARIABLES}…) can't be used: {error}") from error


def _check(found: ClientConnectConfig) -> None:
    """Raise BadSettings for options with which the SDK would report that Temporal is away."""
    tls = found.get("tls")
    if isinstance(tls, TLSConfig):
        _check_tls(tls)
    for value in (found.get("api_key"), found.get("namespace"), *(found.get("rpc_metadata") or {}).values()):
        if value and not str(value).isprintable():
            raise BadSettings(f"{VARIABLES}API_KEY, _NAMESPACE or _GRPC_META_… holds a control character")


def _check_tls(tls: TLSConfig) -> None:
    _usable("SERVER_CA_CERT", tls.server_root_ca_cert, _check_certificates)
    _usable("CLIENT_CERT", tls.client_cert, _check_certificates)
    _usable("CLIENT_KEY", tls.client_private_key, _check_private_key)
    _usable("SERVER_NAME", tls.domain, hosts.checked)
    if bool(tls.client_cert) != bool(tls.client_private_key):
        raise BadSettings(f"{VARIABLES}TLS_CLIENT_CERT… and {VARIABLES}TLS_CLIENT_KEY… are needed together")


def _usable(name: str, value: T | None, check: Callable[[T], object]) -> None:
    try:
        if value:
            check(value)
    except (ValueError, ssl.SSLError):
        raise BadSettings(f"{VARIABLES}TLS_{name}… can't be used") from None


def _check_certificates(pem: bytes) -> None:
    ssl.create_default_context(cadata=pem.decode("ascii"))


def _check_private_key(pem: bytes) -> None:
    if not re.search(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----", pem):
        raise ValueError("not PEM")


def _variables() -> dict[str, str]:
    """The environment without values that are not UTF-8, such as a PWD: the bridge panics on those."""
    return {name: value for name, value in os.environ.items() if _is_text(name + value)}


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
