"""TLS, API key and namespace come from the SDK's environment configuration, the address from ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trustme
from pydantic import SecretStr
from temporalio.service import TLSConfig

from infra.data_dir.layout import DataDir
from infra.environment.bad_settings import BadSettings
from infra.settings import Settings
from infra.temporal import access
from workers.stack import programs
from workers.stack.services import addresses

ADDRESS = "cloud.example:7233"
PROFILE = """
[profile.default]
api_key = "of-somebody-else"  # pragma: allowlist secret
namespace = "theirs"
[profile.prod]
address = "ignored:1"
namespace = "of-the-file"
[profile.prod.tls]
server_name = "temporal.example"
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home with a profile of their own, and nothing else of Temporal's."""
    for name in list(os.environ):
        if name.startswith(access.VARIABLES):
            monkeypatch.delenv(name)
    config = tmp_path / ".config" / "temporalio" / "temporal.toml"
    config.parent.mkdir(parents=True)
    config.write_text(PROFILE)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    return tmp_path


def test_a_profile_in_the_home_is_left_alone() -> None:
    assert access.options(Settings(temporal_address=ADDRESS)) == {
        "target_host": ADDRESS,
        "namespace": "default",
    }


def test_a_key_switches_tls_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", "the-key")
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "ours.acct")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "elsewhere:1")
    assert access.options(Settings(temporal_address=ADDRESS)) == {
        "target_host": ADDRESS,
        "namespace": "ours.acct",
        "api_key": "the-key",  # pragma: allowlist secret
        "tls": True,
    }


def test_our_own_namespace_goes_before_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "ours.acct")
    monkeypatch.setenv("ORCHESTRATOR_TEMPORAL_NAMESPACE", "default")
    assert access.options(Settings(temporal_address=ADDRESS))["namespace"] == "default"


def test_certificates_are_read_from_files(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    own = authority.issue_cert("client.example")
    pems = {
        "CLIENT_CERT": own.cert_chain_pems[0],
        "CLIENT_KEY": own.private_key_pem,
        "SERVER_CA_CERT": authority.cert_pem,
    }
    for variable, pem in pems.items():
        pem.write_to_path(home / variable)
        monkeypatch.setenv(f"TEMPORAL_TLS_{variable}_PATH", str(home / variable))
    tls = access.options(Settings(temporal_address=ADDRESS))["tls"]
    assert isinstance(tls, TLSConfig)
    assert (tls.client_cert, tls.client_private_key) == (pems["CLIENT_CERT"].bytes(), pems["CLIENT_KEY"].bytes())
    assert tls.server_root_ca_cert == authority.cert_pem.bytes()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TLS_CLIENT_CERT_DATA", "junk"),
        ("TLS_CLIENT_KEY_DATA", "junk"),
        ("TLS_SERVER_CA_CERT_DATA", "junk"),
        ("TLS_SERVER_CA_CERT_DATA", "é"),
        ("TLS_SERVER_NAME", "two words"),
        ("API_KEY", "two\nlines"),
        ("NAMESPACE", "two\nlines"),
        ("GRPC_META_X", "two\nlines"),
    ],
)
def test_what_the_sdk_takes_for_an_engine_that_is_away_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"TEMPORAL_{variable}", value)
    with pytest.raises(BadSettings) as refused:
        access.options(Settings(temporal_address=ADDRESS))
    assert len(str(refused.value).splitlines()) == 1
    assert value not in str(refused.value)


def test_a_certificate_without_its_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_CERT_DATA", trustme.CA().cert_pem.bytes().decode())
    with pytest.raises(BadSettings, match="CLIENT_KEY"):
        access.options(Settings(temporal_address=ADDRESS))


async def test_an_address_that_the_sdk_refuses_is_a_bad_setting() -> None:
    with pytest.raises(BadSettings, match="ORCHESTRATOR_TEMPORAL_ADDRESS"):
        await access.connect(Settings.model_construct(temporal_address="h|x:1"), lazy=False)


def test_a_profile_that_is_asked_for_counts_but_for_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_PROFILE", "prod")
    found = access.options(Settings(temporal_address=ADDRESS))
    assert (found["target_host"], found["namespace"]) == (ADDRESS, "of-the-file")
    assert isinstance(found["tls"], TLSConfig)
    assert found["tls"].domain == "temporal.example"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("TEMPORAL_PROFILE", "unknown"), ("TEMPORAL_TLS_CLIENT_CERT_PATH", "/nowhere/client.pem")],
)
def test_a_configuration_that_can_not_be_read_is_said_so(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadSettings, match=value):
        access.options(Settings(temporal_address=ADDRESS))


def test_what_is_no_text_in_the_environment_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWD", "/home/a\udcff")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "elsewhere:1")
    assert access.options(Settings(temporal_address=ADDRESS))["target_host"] == ADDRESS


def test_without_an_address_nothing_is_guessed() -> None:
    with pytest.raises(BadSettings, match="ORCHESTRATOR_TEMPORAL_ADDRESS"):
        access.options(Settings())


@pytest.mark.parametrize("embedded", [True, False])
def test_the_embedded_server_is_not_disturbed(home: Path, monkeypatch: pytest.MonkeyPatch, embedded: bool) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", "the-key")
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "ours.acct")
    settings = Settings() if embedded else Settings(temporal_address=ADDRESS)
    data_dir = DataDir.create(home / "data")
    services = addresses(settings, data_dir)
    env = programs.environment(settings, services, data_dir, SecretStr("key"))
    assert ("TEMPORAL_API_KEY" in env) is not embedded
    assert env["ORCHESTRATOR_TEMPORAL_NAMESPACE"] == ("default" if embedded else "ours.acct")
    (node,) = programs.nodes(programs.LocalNodes(1), settings, services, data_dir)
    assert node.env is not None
    assert "TEMPORAL_API_KEY" not in node.env
