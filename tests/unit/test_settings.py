"""The environment: each setting that can't work is refused with its name, in one line."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from infra.environment.bad_settings import BadSettings
from infra.settings import ENV_PREFIX, Settings, load
from workers import cli
from workflows.domain.limits import MAX_RETRIES, MAX_TIMEOUT_MS

FLOATS = ("HEARTBEAT_TIMEOUT", "AGING", "MONITOR_INTERVAL", "INSTANCE_TIMEOUT", "LEADER_LEASE")
WHOLE = ("PORT", "TEMPORAL_PORT", "TEMPORAL_UI_PORT", "DEMO_NODES", "TASK_TIMEOUT", "MAX_RETRIES", "MAX_WAITING")
JSON = {"TASK_TYPES": ("1", "{}"), "APP_WEIGHTS": ("a", "1"), "RATE_LIMITS": ("user", '{"rate": 1, "burst": 1}')}
BAD_LIBPQ = """
sslmode=bogus sslmode=disable&sslmode=require hostaddr=abc service=nobodys connect_timeout=abc
connect_timeout=-1 connect_timeout=٣ target_session_attrs=bad sslrootcert=/nope&sslmode=verify-full
sslcert=/nope sslkey=/nope keepalives=2 keepalives_idle=99999 tcp_user_timeout=x channel_binding=x gssencmode=x
require_auth=x load_balance_hosts=x sslnegotiation=direct ssl_min_protocol_version=2 client_encoding=latin1
port=abc port=1,2 host=a,b&hostaddr=1.2.3.4 dbname=a%00b application_name=a%0Ab replication=database sslsni=x
sslrootcert=/dev/null
"""
BAD_REDIS = """
encoding=bogus retry_on_error=1 client_name=a%20b client_name= socket_timeout=-1 socket_timeout=nan
socket_timeout=0 socket_timeout=1e9 socket_connect_timeout=x decode_responses=0 protocol=9 db=-1 db=x
max_connections=0 port=0 timeout=5 health_check_interval=-1 health_check_interval=x retry=3 driver_info=1
lib_name=x encoding_errors=x parser_class=x ssl_ca_certs=/nope socket_keepalive=perhaps host=a..b password=%00
credential_provider=x command_packer=x
"""
BAD = [
    *((name, value) for name in FLOATS for value in ("nan", "inf", "-inf", "1e300", "1e-300", "-1", "0", "soon")),
    *((name, value) for name in WHOLE for value in ("nan", "-1", "99999999999999999999", "1.5", "many")),
    ("TASK_TIMEOUT", "0"),
    ("TASK_TIMEOUT", str(MAX_TIMEOUT_MS + 1)),
    ("MAX_RETRIES", str(MAX_RETRIES + 1)),
    ("HOST", "two words"),
    ("HOST", "http://localhost"),
    ("HOST", "localhost:80"),
    ("HOST", "a" * 64),
    ("HOST", "a..b"),
    ("API_KEY", "two words"),
    ("API_KEY", " padded"),
    ("API_KEY", "schlüssel"),
    ("API_KEY", "a\tb"),
    ("API_KEY", "k" * 513),
    ("MODE", "test"),
    ("LOG_LEVEL", "LOUD"),
    ("WORKFLOW_SANDBOX", "perhaps"),
    ("TASK_TYPES", "{"),
    ("TASK_TYPES", "[]"),
    ("TASK_TYPES", '{"image": {}}'),
    ("TASK_TYPES", '{"9223372036854775808": {}}'),
    ("TASK_TYPES", '{"-9223372036854775809": {}}'),
    ("TASK_TYPES", '{"2": {"timeout": 0}}'),
    ("TASK_TYPES", '{"2": {"timeout": 86400001}}'),
    ("TASK_TYPES", '{"2": {"maxRetries": 101}}'),
    ("TASK_TYPES", '{"2": {"retries": 1}}'),
    ("TASK_TYPES", '{"2": {"name": "a\\nb"}}'),
    *(
        ("CORS_ORIGINS", value)
        for value in (
            "example.org",
            "https://example.org/",
            "https://example.org/app",
            "https://example.org,",
            "https://a.org https://b.org",
            "*,https://example.org",
            "https://*.example.org",
            "ftp://example.org",
            "https://user@example.org",
            "https://example.org?a",
            "https://example.org:443",
            "https://example.org:99999",
            "https://例子.org",
            "null",
            "://",
        )
    ),
    ("RATE_LIMITS", "fast"),
    ("RATE_LIMITS", '{"user": {"rate": 1e-300, "burst": 1}}'),
    ("RATE_LIMITS", '{"user": {"rate": NaN, "burst": 1}}'),
    ("RATE_LIMITS", '{"user": {"rate": Infinity, "burst": 1}}'),
    ("RATE_LIMITS", '{"user": {"rate": 1, "burst": 0}}'),
    ("RATE_LIMITS", '{"nobody": {"rate": 1, "burst": 1}}'),
    *(
        ("RATE_LIMITS", f'{{"user": {{"rate": 1, "burst": 1, "bytes": {value}}}}}')
        for value in ("1e-15", "5e-324", "1", "65535.9", "-1", "NaN", "1e13")
    ),
    *((name, text) for name in JSON for text in ("[" * 20_000, '{"1":' * 20_000, "9" * 5000, "null", "1")),
    *((name, f'{{"{key}": {value}, "{key}": {value}}}') for name, (key, value) in JSON.items()),
    *(("TASK_TYPES", f'{{"{key}": {{}}}}') for key in ("01", "1.0", " 1", "+1", "1_0", "-0", "1e1", "١", "")),
    ("TASK_TYPES", '{"1": {"timeout": 1, "timeout": 2}}'),
    ("APP_WEIGHTS", '{"a": NaN}'),
    ("APP_WEIGHTS", '{"a": 0}'),
    ("APP_WEIGHTS", "a=1"),
    ("DATABASE_URL", "mysql://user:s3cret@db/x"),  # pragma: allowlist secret
    ("DATABASE_URL", "postgresql://"),
    ("DATABASE_URL", "postgresql://user:s3cret@db:99999/x"),  # pragma: allowlist secret
    ("DATABASE_URL", "postgresql://user:s3cret@db:0/x"),  # pragma: allowlist secret
    ("DATABASE_URL", "postgresql://user:s3cret@db:port/x"),  # pragma: allowlist secret
    ("DATABASE_URL", "postgresql://user:s3cret@db/x?sslmod=require"),  # pragma: allowlist secret
    ("DATABASE_URL", "postgresql://user:s3cret@h1:1,h2:2/x"),  # pragma: allowlist secret
    ("DATABASE_URL", "postgresql://user:s3 cret@db/x"),
    ("REDIS_URL", "http://:s3cret@cache"),  # pragma: allowlist secret
    ("REDIS_URL", "redis://"),
    ("REDIS_URL", "redis://:s3cret@cache:99999"),  # pragma: allowlist secret
    ("REDIS_URL", "redis://:s3cret@cache/main"),  # pragma: allowlist secret
    ("REDIS_URL", "redis://:s3cret@cache?colour=red"),  # pragma: allowlist secret
    ("REDIS_URL", "unix://"),
    *(("DATABASE_URL", f"postgresql://db/x?{option}&password=s3cret") for option in BAD_LIBPQ.split()),
    *(("DATABASE_URL", f"postgresql://{rest}") for rest in ("a..b/d", "*/d", "h/d%00", "h1,h|2/d", "h/a%0Ab")),
    *(("REDIS_URL", f"redis://:s3cret@cache/0?{option}") for option in BAD_REDIS.split()),
    *(("REDIS_URL", url) for url in ("redis://a..b", "redis://a%20b", "redis://h/99999999999", "unix:///a%00b")),
    *(("TEMPORAL_ADDRESS", f"{host}:1") for host in ("%", "[1]", "h|x", "<h>", "*", "a..b", "[::zz]", "999.1.1.1")),
    ("TEMPORAL_ADDRESS", "temporal"),
    ("TEMPORAL_ADDRESS", "http://temporal:7233"),
    ("TEMPORAL_ADDRESS", "temporal:99999"),
    ("TEMPORAL_NAMESPACE", "a\nb"),
    ("TASK_QUEUE", "q" * 129),
    ("CLUSTER_ID", " c "),
    ("NODE_NETWORKS", "10.0.0.1/8"),
    ("WEBHOOK_NETWORKS", "10.0.0.1/8"),
    *(("WEBHOOK_RETRIES", value) for value in ("5,", "-5", "x", "1e3", "5;6")),
    *(("NODE_PORTS", value) for value in ("0", "8000-", "٣", "+5", "1_0", "5-+7", "1-2-", "1--2", "1 2", "0x1")),
    ("PUBLIC_URL", "http://host:99999"),
    ("PUBLIC_URL", "http://user:s3cret@host"),  # pragma: allowlist secret
    ("PUBLIC_URL", "http://two words"),
    *(("PUBLIC_URL", f"http://{host}/") for host in ("a:0", "*", "%00", "..", "h;rm", "a,b", "[1]", "999.1.1.1", "-a")),
    *(("PUBLIC_URL", f"http://host{rest}") for rest in ("?", "#", "/?", "/a\\b")),
    *(("HOST", value) for value in (".", "%", "999.1.1.1", "1.2.3", "-", "::1::")),
]


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("name", "value"), BAD)
def test_what_can_not_work_is_refused_in_a_line_that_names_it_and_holds_no_secret(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_PREFIX + name, value)
    with pytest.raises(BadSettings) as refused:
        load()
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{ENV_PREFIX}{name}: ")
    assert "s3cret" not in line
    assert "cret@" not in line


def test_several_bad_settings_are_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_PORT", "0")
    monkeypatch.setenv("ORCHESTRATOR_AGING", "inf")
    with pytest.raises(BadSettings) as refused:
        load()
    assert [line.split(":")[-2].strip() for line in str(refused.value).splitlines()] == [
        "ORCHESTRATOR_PORT",
        "ORCHESTRATOR_AGING",
    ]


@pytest.mark.parametrize("command", ["run", "api", "worker", "migrate", "keys list", "verify"])
@pytest.mark.parametrize(("name", "value"), [("AGING", "inf"), ("RATE_LIMITS", "{")])
def test_every_command_ends_with_2_and_one_line(
    command: str, name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ENV_PREFIX + name, value)
    assert cli.main(command.split()) == 2
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith(f"error: {ENV_PREFIX}{name}: ")
    assert output.out == ""


@pytest.mark.parametrize("command", ["api", "worker", "migrate"])
def test_programs_started_by_hand_name_the_addresses_that_they_need(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "ORCHESTRATOR_DATABASE_URL" in line
    assert ("ORCHESTRATOR_TEMPORAL_ADDRESS" in line) is (command != "migrate")


def test_an_address_that_the_api_can_not_listen_on_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("DATABASE_URL", "postgresql://db/x"), ("TEMPORAL_ADDRESS", "t:1"), ("HOST", "203.0.113.1")):
        monkeypatch.setenv(ENV_PREFIX + name, value)
    assert cli.main(["api"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "change ORCHESTRATOR_HOST or ORCHESTRATOR_PORT" in line


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(ENV_PREFIX + name.upper(), "")
    assert load() == Settings.model_construct(**Settings().model_dump())
    assert load().api_key is None


def test_an_empty_key_is_a_missing_one_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_MODE", "production")
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", "")
    with pytest.raises(BadSettings, match=r"production mode needs ORCHESTRATOR_API_KEY, ORCHESTRATOR_DATABASE_URL"):
        load()


@pytest.mark.parametrize(("one", "other"), [("PORT", "7233"), ("TEMPORAL_PORT", "8233"), ("TEMPORAL_UI_PORT", "8080")])
def test_the_ports_of_the_embedded_stack_differ(one: str, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_PREFIX + one, other)
    with pytest.raises(BadSettings, match=r"ORCHESTRATOR_PORT and ORCHESTRATOR_TEMPORAL_PORT and .* must differ"):
        load()
    monkeypatch.setenv("ORCHESTRATOR_TEMPORAL_ADDRESS", "temporal:7233")
    load()


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("DATABASE_URL", "postgres://u:p@db/x", lambda s: s.database_url == "postgresql://u:p@db/x"),
        ("DATABASE_URL", "postgresql:///x", lambda s: s.database_url == "postgresql:///x"),
        ("DATABASE_URL", "postgresql+psycopg://u@/d?host=h1:5432&host=h2", lambda s: s.database_url is not None),
        *(
            ("DATABASE_URL", f"postgresql://u:p@db/x{rest}", lambda s: s.database_url is not None)
            for rest in (
                "?sslmode=require&channel_binding=require&target_session_attrs=read-write&connect_timeout=10",
                "?sslmode=verify-full&sslrootcert=system&application_name=gpu%20orchestrator",
                "?hostaddr=10.0.0.1&keepalives_idle=30&tcp_user_timeout=5000&client_encoding=utf8",
                "?gssencmode=disable&options=-c%20statement_timeout%3D5s&require_auth=scram-sha-256",
            )
        ),
        ("DATABASE_URL", "postgresql://u:p@[::1]:5433/x", lambda s: s.database_url is not None),
        ("DATABASE_URL", "postgresql://u:p@db.example./x", lambda s: s.database_url is not None),
        ("DATABASE_URL", "postgresql:///x?host=/run/postgresql", lambda s: s.database_url is not None),
        *(
            ("REDIS_URL", url, lambda s: s.redis_url is not None)
            for url in (
                "redis://user@[::1]:6380/15?password=p%40ss&socket_timeout=2.5&client_name=gpu",
                "rediss://cache_1?ssl_cert_reqs=none&ssl_check_hostname=false&protocol=3&max_connections=50",
                "redis://?host=cache&db=2",
                "unix://user:p@/run/redis.sock",
            )
        ),
        ("TEMPORAL_ADDRESS", "[::1]:7233", lambda s: s.temporal_address is not None),
        ("TEMPORAL_ADDRESS", "ns.acct.tmprl.cloud:7233", lambda s: s.temporal_address is not None),
        ("REDIS_URL", "unix:///run/redis.sock?db=1", lambda s: s.redis_url is not None),
        ("LOG_LEVEL", "info", lambda s: s.log_level == "INFO"),
        ("HOST", "::", lambda s: s.host == "::"),
        ("HOST", "api_1.internal", lambda s: s.host == "api_1.internal"),
        ("TASK_TYPES", '{"-9223372036854775808": {"timeout": 1}}', lambda s: s.timeout_for(-(2**63)) == 1),
        ("RATE_LIMITS", '{"user": {"rate": 0, "burst": 1}}', lambda s: s.rate_of("user") is None),
    ],
)
def test_what_works_is_taken(
    name: str, value: str, read: Callable[[Settings], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_PREFIX + name, value)
    assert read(load())


def test_a_variable_that_nothing_reads_is_pointed_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HEARTBEAT_TIMOUT", "COLOUR", "NODE_SLOTS", "NODE_KEY", "NODE_PORTS", "PUBLISH"):
        monkeypatch.setenv(ENV_PREFIX + name, "80")
    for name in ("NODE_NETWORK", "NODE_SLOT"):
        monkeypatch.setenv(ENV_PREFIX + name, "80")
    load()
    assert capsys.readouterr().err.splitlines() == [
        "warning: ORCHESTRATOR_COLOUR is no setting",
        "warning: ORCHESTRATOR_HEARTBEAT_TIMOUT is no setting: is ORCHESTRATOR_HEARTBEAT_TIMEOUT meant?",
        "warning: ORCHESTRATOR_NODE_NETWORK is no setting: is ORCHESTRATOR_NODE_NETWORKS meant?",
        "warning: ORCHESTRATOR_NODE_SLOT is no setting: is ORCHESTRATOR_NODE_SLOTS meant?",
    ]


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("", ()),
        ("*", ("*",)),
        ("https://Example.org", ("https://example.org",)),
        (
            "http://localhost:3000, https://a-b.example.org:8443",
            ("http://localhost:3000", "https://a-b.example.org:8443"),
        ),
        ("http://[::1]:3000", ("http://[::1]:3000",)),
        ("http://127.0.0.1", ("http://127.0.0.1",)),
    ],
)
def test_origins_are_as_browsers_write_them(value: str, origins: tuple[str, ...]) -> None:
    assert Settings(cors_origins=value).cors_origins == origins


@pytest.mark.parametrize(
    ("text", "allowed", "refused"),
    [
        ("1-65535", [1, 8080, 65535], [0]),
        ("8000-8999, 9100", [8000, 8999, 9100], [7999, 9000, 9101]),
        ("22", [22], [21, 23]),
    ],
)
def test_node_ports(text: str, allowed: list[int], refused: list[int]) -> None:
    ranges = Settings(node_ports=text).node_ports
    assert all(any(port in ports for ports in ranges) for port in allowed)
    assert not any(any(port in ports for ports in ranges) for port in refused)


@pytest.mark.parametrize("text", ["", "0", "0-5", "9-8", "1-65536", "http", "1-2-3", "80,,81", "-5"])
def test_bad_node_ports_are_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="node_ports"):
        Settings(node_ports=text)
