"""The client's wheel in an environment of its own: `python -m tests.client.bare [FOLDER]`, or `make test-wheel`.

It builds the wheel, installs it alone, and checks that it brings little and works. Its requirements are fetched in the
versions of `requirements.lock`. The environment stays if it has a FOLDER.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from tests.client.test_package import MOST, NEVER, PACKAGE, ROOT

QUIET = ("--quiet", "--disable-pip-version-check", "--no-input")
USE = """
from gpu_orchestrator_client import AsyncClient, Client, verify_webhook
with Client("http://127.0.0.1:9", "key") as client:
    pass
"""


def bare(folder: Path, work: Path) -> Path:
    """The Python of an environment with the wheel and what it requires."""
    source = shutil.copytree(PACKAGE, work / "source")  # a build leaves files behind
    _pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(work), str(source))
    wheel = next(work.glob("*.whl"))
    pins = re.findall(r"^[^\s;=]+==[^\s;]+", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    constraints = work / "constraints.txt"
    constraints.write_text("\n".join(pins), encoding="utf-8")
    venv.EnvBuilder(clear=True, symlinks=True, with_pip=True).create(folder)
    _pip(folder / "bin" / "python", "install", "--constraint", str(constraints), str(wheel))
    return folder / "bin" / "python"


def _pip(python: Path | str, *words: str) -> None:
    subprocess.run([python, "-I", "-m", "pip", words[0], *QUIET, *words[1:]], check=True)


def packages(python: Path) -> set[str]:
    """Installed packages, without pip and what came with it."""
    listed = subprocess.check_output(
        [python, "-I", "-m", "pip", "--disable-pip-version-check", "list", "--format=json"]
    )
    return {one["name"].lower() for one in json.loads(listed)} - {"pip", "setuptools", "wheel"}


def main() -> None:
    """Build, install, check. Raises CalledProcessError, AssertionError."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(work, "bare")
        python = bare(folder, Path(work))
        found = packages(python)
        sys.stdout.write(f"{len(found)} packages: {', '.join(sorted(found))}\n")
        assert len(found) <= MOST
        assert not found & NEVER
        subprocess.run([python, "-I", "-c", USE], check=True)


if __name__ == "__main__":
    main()
