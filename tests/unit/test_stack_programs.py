"""The embedded programs, and the settings that they get."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.data_dir.embedded import forget_foreign
from infra.data_dir.layout import DataDir
from infra.settings import ENV_PREFIX, Settings, load
from workers.demo.folder import VARIABLE
from workers.stack import programs
from workers.stack.process import foreign_environment
from workers.stack.services import Services, addresses, embedded_parts, embedded_ports


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    return DataDir.create(tmp_path / "data")


SERVICES = Services("postgresql+psycopg://db", "redis://cache", "temporal:7233", "default", None)


def test_a_service_whose_address_is_set_is_not_embedded(data_dir: DataDir) -> None:
    settings = Settings(
        database_url=SERVICES.database_url, redis_url=SERVICES.redis_url, temporal_address=SERVICES.temporal_address
    )
    assert addresses(settings, data_dir) == SERVICES
    assert embedded_parts(settings, data_dir) == []
    assert embedded_ports(settings) == []


def test_programs_get_the_addresses_and_the_settings_of_the_stack(data_dir: DataDir) -> None:
    settings = Settings(port=9000, heartbeat_timeout=2.5, task_types={2: {"name": "image", "maxRetries": 1}})
    env = programs.environment(settings, SERVICES, data_dir, SecretStr("key"))
    assert env["ORCHESTRATOR_DATABASE_URL"] == SERVICES.database_url
    assert env["ORCHESTRATOR_API_KEY"] == "key"  # pragma: allowlist secret
    assert env["ORCHESTRATOR_DATA_DIR"] == str(data_dir.root)
    assert env["ORCHESTRATOR_PORT"] == "9000"
    assert env["ORCHESTRATOR_HEARTBEAT_TIMEOUT"] == "2.5"
    assert json.loads(env["ORCHESTRATOR_TASK_TYPES"]) == {"2": {"name": "image", "maxRetries": 1}}


CHOSEN = {
    "mode": "production",
    "host": "0.0.0.0",
    "port": "9000",
    "public_url": "https://gpu.example.org/",
    "cors_origins": "https://console.example.org,http://localhost:3000",
    "task_queue": "another",
    "temporal_port": "7234",
    "temporal_ui_port": "8234",
    "temporal_ui_url": "https://temporal.example.org",
    "trace_url": "https://jaeger.example.org/trace/{trace_id}",
    "workflow_sandbox": "true",
    "demo_nodes": "0",
    "node_networks": "10.0.0.0/8, fd00::/8",
    "node_ports": "8000-8999,9100",
    "webhook_networks": "10.0.0.0/8,fd00::/8",
    "webhook_retries": "1,2.5",
    "notify": "CRITICAL json://127.0.0.1:9/a WARNING json://127.0.0.1:9/b",
    "heartbeat_timeout": "2.5",
    "task_timeout": "60000",
    "max_retries": "0",
    "task_types": '{"2": {"name": "image", "maxRetries": 1}}',
    "vip_nodes_strict": "true",
    "aging": "60",
    "app_weights": '{"a": 2.5}',
    "rate_limits": '{"user": {"rate": 1, "burst": 2}}',
    "max_waiting": "5",
    "retain_tasks": "3",
    "retain_payloads": "0.5",
    "retain_events": "2",
    "retain_audit": "30",
    "retain_alerts": "9",
    "monitor_interval": "5",
    "instance_timeout": "5",
    "leader_lease": "5",
    "cluster_id": "here",
    "log_level": "debug",
}
OF_THE_STACK = {"api_key", "data_dir", "database_url", "redis_url", "temporal_address", "temporal_namespace"}
"""Settings that the stack itself decides for its programs."""


def test_the_programs_get_every_setting_as_it_was_chosen(data_dir: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    assert CHOSEN.keys() == Settings.model_fields.keys() - OF_THE_STACK
    usual = Settings()
    chosen = CHOSEN | {"api_key": "k" * 32, "database_url": "postgresql://db/x", "redis_url": "redis://cache"}
    for name, value in (chosen | {"temporal_address": "temporal:7233"}).items():
        monkeypatch.setenv(ENV_PREFIX + name.upper(), value)
    of_the_stack = load()
    for name, value in programs.environment(
        of_the_stack, SERVICES, data_dir, of_the_stack.api_key or SecretStr("")
    ).items():
        monkeypatch.setenv(name, value)
    of_a_program = load()
    for name in CHOSEN:
        assert getattr(of_a_program, name) == getattr(of_the_stack, name) != getattr(usual, name), name


@pytest.mark.parametrize("embedded", [True, False])
def test_the_variables_of_others_count_for_their_own_services_alone(
    data_dir: DataDir, monkeypatch: pytest.MonkeyPatch, embedded: bool
) -> None:
    foreign = {"PGAPPNAME": "x", "PGHOSTADDR": "192.0.2.1", "TEMPORAL_ADDRESS": "192.0.2.1:7233"}
    for name, value in foreign.items():
        monkeypatch.setenv(name, value)
    settings = Settings() if embedded else Settings(database_url="postgresql://db/x", temporal_address="temporal:7233")
    env = programs.environment(settings, SERVICES, data_dir, SecretStr("key"))
    assert bool(foreign.items() & env.items()) is not embedded
    assert not foreign.items() & foreign_environment().items()
    forget_foreign(settings)
    assert bool(foreign.items() & os.environ.items()) is not embedded


def test_a_node_beats_often_enough_for_the_grace(data_dir: DataDir) -> None:
    for timeout, interval in ((40.0, "10.0"), (2.0, "0.5")):
        (node,) = programs.nodes(programs.LocalNodes(1), Settings(heartbeat_timeout=timeout), SERVICES, data_dir)
        assert node.argv[node.argv.index("--heartbeat-interval") + 1] == interval


def test_a_node_knows_its_key_file_and_none_of_the_settings(data_dir: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "DATABASE_URL", "REDIS_URL", "NODE_KEY", "NODE_COMMAND"):
        monkeypatch.setenv(f"ORCHESTRATOR_{name}", "secret")
    for name in ("PGPASSWORD", "TEMPORAL_API_KEY"):
        monkeypatch.setenv(name, "secret")
    settings = Settings(host="0.0.0.0", port=9000, api_key=None, database_url=None, redis_url=None)
    first, second = programs.nodes(programs.LocalNodes(2), settings, SERVICES, data_dir)
    assert (first.name, second.name) == ("gpu_001", "gpu_002")
    assert first.env is not None
    assert not [name for name in first.env if name.startswith("ORCHESTRATOR_")]
    assert "secret" not in first.env.values()
    assert first.env[VARIABLE] == str(data_dir.root / "demo")
    assert first.argv[first.argv.index("--key-file") + 1] == str(data_dir.root / "node_key")
    assert first.argv[first.argv.index("--api") + 1] == "http://127.0.0.1:9000"
    assert str(data_dir.nodes / "gpu_002") in second.argv
    assert first.cwd == data_dir.nodes
