"""Builds `.venv` for the Makefile: with what `requirements.lock` names, and this checkout as an editable package.

Standard library only: nothing else is there yet. A finished environment has a stamp, which names the folder, the Python
and the requirements it was built for. Without a stamp (an interrupted attempt, a foreign environment) and after a
change of folder or Python the environment is rebuilt; after a change of the requirements only they are installed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import pwd
import shlex
import subprocess  # nosec B404
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".installed"
REQUIREMENTS = (ROOT / "requirements.lock", ROOT / "pyproject.toml")
EGG_INFO = ROOT / "gpu_orchestrator.egg-info"
UNUSABLE = {os.pathsep, "$", "{", "}", "\n"}
"""Characters in the path of a checkout that venv, setuptools or the import of its packages can't cope with."""
INSTALL = ("--quiet", "--disable-pip-version-check", "--no-input")
PASSED_TO_PIP = {
    "PIP_CACHE_DIR",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_CONFIG_FILE",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_INDEX_URL",
    "PIP_KEYRING_PROVIDER",
    "PIP_NO_CACHE_DIR",
    "PIP_NO_INDEX",
    "PIP_PROXY",
    "PIP_RETRIES",
    "PIP_TIMEOUT",
    "PIP_TRUSTED_HOST",
}
"""Where packages come from. Where they go is not for the environment to say (PIP_TARGET, PIP_USER, PIP_PREFIX)."""


class Refused(Exception):
    """The environment can't be built; the text says what to do."""


def main() -> int:
    """0: the environment is there (`--check`: and was already); 1: it is not, and why."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether it is there; for its own Python")
    parser.add_argument("--python", help="the Python that the user asks for; default: any that will do")
    args = parser.parse_args()
    if args.check:
        return 0 if is_current(args.python) else 1
    try:
        with one_at_a_time():
            if not check_says_current(args.python):
                build()
    except (Refused, OSError, ValueError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"error: {explanation(error)}\n")
        return 1
    return 0


def is_current(asked_for: str | None) -> bool:
    """Whether the running Python is that of a finished environment of this folder, and of the version asked for."""
    if asked_for and version_of(asked_for) != version_of(sys.executable):
        return False
    return Path(sys.prefix).resolve() == VENV.resolve() and stamp() == expected_stamp()


def check_says_current(asked_for: str | None) -> bool:
    """`is_current` in the environment's own Python, where that runs at all."""
    command = [str(PYTHON), "-I", __file__, "--check", *(["--python", asked_for] if asked_for else [])]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0  # nosec B603
    except OSError:
        return False


def build() -> None:
    """Make the environment where there is none to go on with, and install. Raises Refused, OSError and others."""
    require_tools()
    for folder in (ROOT, VENV, EGG_INFO):
        require_writable(folder)
    goes_on = stamp()[:2] == expected_stamp()[:2] and has_pip()
    STAMP.unlink(missing_ok=True)
    say(f"{'updating' if goes_on else 'setting up'} .venv; this can take a minute or two")
    if not goes_on:
        make_empty()
    install("--require-hashes", "-r", str(REQUIREMENTS[0]))
    install("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    STAMP.write_bytes(b"\n".join(expected_stamp()))


def require_tools() -> None:
    """Raises Refused where this Python can't make environments, as Debian's without its package python3-venv."""
    if found := UNUSABLE.intersection(str(ROOT)):
        raise Refused(f"Python's tools can't work in a folder with {min(found)!r} in its path: move {str(ROOT)!r}")
    missing = [name for name in ("venv", "ensurepip") if find_spec(name) is None]
    if missing:
        raise Refused(f"{sys.executable} lacks {' and '.join(missing)}: {advice()}, then try again")


def advice() -> str:
    """How the modules are installed: their package on Debian and its children, else in words."""
    if not Path("/etc/debian_version").exists():
        return "install your distribution's packages for Python's venv and ensurepip"
    own = Path("/usr/bin/python3").resolve() == Path(sys.executable).resolve()
    package = "python3-venv" if own else f"python{version_of(sys.executable)}-venv"
    return f"{'' if os.geteuid() == 0 else 'sudo '}apt install {package}"


def require_writable(folder: Path) -> None:
    """Raises Refused for the first folder of a tree that we may not change."""
    if folder.is_file():
        raise Refused(f"{folder} is not a folder: remove it")
    inside = () if folder == ROOT else (Path(name) for name, _, _ in os.walk(folder))
    for path in (folder, *inside):
        if path.exists() and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise Refused(f"{path} {whose(path)}: sudo chown -R {me()} {shlex.quote(str(folder))}")


def whose(path: Path) -> str:
    uid = path.stat().st_uid
    return "is not writable" if uid == os.geteuid() else f"belongs to {user(uid)}"


def me() -> str:
    return shlex.quote(user(os.geteuid()))


def user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def make_empty() -> None:
    """An environment with pip and nothing else, whatever was there."""
    import venv

    venv.EnvBuilder(clear=True, symlinks=True, with_pip=True).create(VENV.resolve())  # it refuses a link


def install(*what: str) -> None:
    """Have pip install something; its own words are its user's to read. Raises CalledProcessError."""
    command = [str(PYTHON), "-I", "-m", "pip", "install", *INSTALL, *what]
    subprocess.run(command, check=True, env=clean())  # nosec B603


def has_pip() -> bool:
    command = [str(PYTHON), "-I", "-c", "import pip"]
    if not PYTHON.exists():
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # nosec B603


def clean() -> dict[str, str]:
    """The environment without what bends Python or the place that pip installs to."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "PYTHON")) or name in PASSED_TO_PIP
    }
    return kept | {"PIP_USER": "0"}


def stamp() -> list[bytes]:
    """The inputs that the environment was built for; empty if it was never finished."""
    try:
        return STAMP.read_bytes().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return []


def expected_stamp() -> list[bytes]:
    """Folder, Python and requirements, each without a line break."""
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in REQUIREMENTS)).hexdigest()
    where = os.fsencode(ROOT).replace(b"\n", b" ")
    return [where, version_of(sys.executable).encode("ascii"), digest.encode("ascii")]


def version_of(python: str) -> str:
    """`3.12`; nothing where it can't be run."""
    if python == sys.executable:
        return f"{sys.version_info[0]}.{sys.version_info[1]}"
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        found = subprocess.run([python, "-I", "-c", code], capture_output=True, check=False)  # nosec B603
    except OSError:
        return ""
    return found.stdout.decode("ascii", "replace").strip()


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold the checkout for this process among all that build its environment."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another make sets up .venv: waiting for it")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def explanation(error: Exception) -> str:
    """One line."""
    if isinstance(error, OSError):
        return f"can't set up {VENV}: {error.strerror or error}{f' ({error.filename})' if error.filename else ''}"
    if isinstance(error, subprocess.CalledProcessError):
        lines = (error.output or b"see above").decode("utf-8", "replace").splitlines()
        reason = next((line for line in lines if line.startswith("ERROR")), lines[-1])
        return f"{VENV} could not be set up ({reason}); the next try starts anew"
    return str(error)


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
