"""A process that has hidden a secret, as the kernel shows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the means are Linux'")

HIDE = """
import sys
from workers.node.secrecy import hide
hide(sys.stdin.read())
for name in ("cmdline", "environ"):
    sys.stdout.write(open(f"/proc/self/{name}", encoding="latin-1").read())
"""


@pytest.mark.parametrize(
    "secret",
    ["a-secret-of-some-length", "padded-secret-abc==", "a=secret=with=signs", "=ab=", "ab==", "abcabcabcabcabc"],
)
def test_a_secret_is_wiped_wherever_it_occurs(secret: str) -> None:
    long = f"{secret} and again {secret}{secret[3:]}" if len(secret) > 12 else secret
    argv = [sys.executable, "-c", HIDE, "--api-key", secret, f"--api-key={secret}", long, "kept"]
    env = {"PYTHONPATH": str(Path.cwd()), "KEY": secret, "LONG": long, "KEPT": "kept-too"}
    shown = subprocess.run(argv, input=secret, check=True, capture_output=True, text=True, env=env).stdout
    assert secret not in shown
    assert "kept" in shown.split("\0")
    assert "KEPT=kept-too" in shown.split("\0")
