"""docker-compose.yml can't be run here, but it can be held to what the programs read."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.settings import ENV_PREFIX, Settings
from workers.cli import COMMANDS

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
ONLY_FOR_COMPOSE = {"ORCHESTRATOR_PUBLISH"}  # where the API's port is published; no program reads it
NOT_HANDED_ON = {
    "DATA_DIR": "only the embedded stack has one; the image names a folder",
    "DEMO_NODES": "only the embedded stack starts nodes",
    "TEMPORAL_PORT": "the embedded server's",
    "TEMPORAL_UI_PORT": "the embedded server's",
}
GIVEN = {
    "ORCHESTRATOR_API_KEY": "k" * 32,
    "ORCHESTRATOR_PUBLIC_URL": "http://192.0.2.1:8080",
    "ORCHESTRATOR_NODE_NETWORKS": "192.0.2.0/24,198.51.100.0/24",
}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]


@pytest.fixture(scope="module")
def programs(services: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in services.items() if "build" in service}


def interpolated(text: str) -> str:
    """`${NAME:?why}` as a person would give it."""
    return re.sub(r"\$\{(\w+):\?[^{}]*\}", lambda found: GIVEN.get(found[1], "secret"), text)


def test_every_variable_is_a_setting(programs: dict[str, Any]) -> None:
    used = set(re.findall(rf"{ENV_PREFIX}\w+", COMPOSE.read_text(encoding="utf-8"))) - ONLY_FOR_COMPOSE
    assert used <= {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    own = {name for service in programs.values() for name in service["environment"] if name.startswith(ENV_PREFIX)}
    assert used == own


@pytest.mark.parametrize("field", sorted(Settings.model_fields))
def test_every_setting_is_handed_on(programs: dict[str, Any], field: str) -> None:
    for service in programs.values():
        assert (ENV_PREFIX + field.upper() in service["environment"]) is (field.upper() not in NOT_HANDED_ON)


def test_traces_can_be_exported(programs: dict[str, Any]) -> None:
    wanted = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"}
    for service in programs.values():
        assert wanted <= service["environment"].keys()


def test_every_log_is_turned_over(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["logging"]["options"].keys() >= {"max-size", "max-file"}, name


def test_what_works_is_given_time_to_end(services: dict[str, Any]) -> None:
    for name in ("api", "worker", "postgres", "temporal"):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) >= 30


def test_api_and_worker_wait_for_the_schema(programs: dict[str, Any]) -> None:
    for name in ("api", "worker"):
        assert programs[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_only_the_api_waits_for_redis(programs: dict[str, Any]) -> None:
    assert {name for name, service in programs.items() if "redis" in service["depends_on"]} == {"api"}


def test_every_command_exists(programs: dict[str, Any]) -> None:
    assert set(programs) == {"migrate", "api", "worker"}
    for service in programs.values():
        (command,) = service["command"]
        assert command in COMMANDS


def test_settings_are_accepted_in_production(programs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for service in programs.values():
        for name, value in service["environment"].items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, interpolated(value))
        settings = Settings()
        assert settings.mode == "production"
        database = "postgresql://orchestrator:secret@postgres:5432/orchestrator"  # pragma: allowlist secret
        assert settings.database_url == database
        assert settings.redis_url == "redis://:secret@redis:6379/0"
        assert settings.task_types == {}


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_what_has_no_safe_default_is_required(programs: dict[str, Any], name: str) -> None:
    for service in programs.values():
        assert service["environment"][name].startswith(f"${{{name}:?")


def test_no_secret_is_written_down(services: dict[str, Any]) -> None:
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|PWD|KEY|AUTH", name):
                assert re.fullmatch(r"\$\{\w+:\?[^{}]+\}", value), name


def test_the_api_is_asked_for_its_health(programs: dict[str, Any]) -> None:
    assert "/healthz" in programs["api"]["healthcheck"]["test"][-1]


def test_dependencies_exist_and_can_be_waited_for(services: dict[str, Any]) -> None:
    for service in services.values():
        for name, how in service.get("depends_on", {}).items():
            needed = services[name]
            if how["condition"] == "service_healthy":
                assert "healthcheck" in needed
            else:
                assert needed["restart"].startswith("on-failure")


def test_the_image_gets_every_package_and_nothing_that_is_held_back() -> None:
    recipe = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", recipe, re.MULTILINE) for name in line.split()}
    let_through = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    assert copied == let_through
    found = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"][
        "find"
    ]
    for name in found["include"]:
        [folder] = [ROOT / where for where in found["where"] if (ROOT / where / name.rstrip("*")).is_dir()]
        package = folder / name.rstrip("*")
        assert package.relative_to(ROOT).parts[0] in copied
