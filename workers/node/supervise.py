"""Runs one piece of work and does not end before everything that the work started has ended.

One such process for each attempt, between the agent and the work: `supervise.py CONTROL USER PROGRAM ARGUMENT…`. It is
a subreaper (the agent sets that before exec): what a piece of work leaves behind, detached in whatever way, becomes a
child of this process, so nothing is found by name, and nothing is missed.

CONTROL is the descriptor of a socket to the agent. To the agent: a line with 0 once the program runs, or with the errno
that kept it from running. From the agent: a byte asks for an orderly end (SIGTERM, then SIGKILL after GRACE seconds);
the end of the stream, which also is the agent's death, for an end at once. Ends as the work did. USER is empty, or the
uid, the gid and the groups to run the work with.

Each attempt pays for the start of this program, so it imports next to nothing: `signal`, `json`, `typing` and the like
would take twice as long as all the rest.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Collection, Iterator
    from typing import NoReturn
else:
    import _signal as signal

GRACE = 2.0  # seconds between SIGTERM and SIGKILL
STEP = 0.01  # seconds between checks of processes that are being killed
LONGEST_STEP = 0.25  # seconds; what cannot be killed (a driver that hangs, another user's) costs little
_MOST_LOOKS = 100  # for processes that are not stopped yet; another user's go on to fork
_NOT_RUN = 127
_NOT_FOUND = 2  # ENOENT


class Control:
    """The socket to the agent."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self.descriptor = descriptor
        self.asked = False  # for the end
        self.at_once = False

    def say(self, number: int) -> None:
        """Report how the start went."""
        try:
            os.write(self.descriptor, b"%d\n" % number)
        except OSError:  # the agent is dead, which we hear anyway
            self.at_once = True

    def hear(self) -> None:
        """Read what the agent has sent."""
        try:
            said = os.read(self.descriptor, 64)
        except OSError:
            said = b""
        self.asked = True
        self.at_once = self.at_once or not said


def main(control: Control, user: list[int], argv: list[str]) -> NoReturn:
    """Run, wait, clean up, end as the work did."""
    wakeup, poller = _wakeup(), select.poll()
    poller.register(wakeup, select.POLLIN)
    poller.register(control.descriptor, select.POLLIN)
    work, error = _start(argv, user)
    control.say(error)
    _let_go_of_output()
    ended = {work: _NOT_RUN << 8} if error else dict[int, int]()
    while work not in ended and not control.asked:
        for descriptor, _ in poller.poll():
            if descriptor == control.descriptor:
                control.hear()
            else:
                os.read(wakeup, 4096)
        _reap(ended)
    _clean_up(control, work, ended)
    _end_as(ended[work])


def _wakeup() -> int:
    """A descriptor that becomes readable when a child has ended."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for number in (
        signal.SIGCHLD,
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
    ):  # a `kill $PPID` of the work is nothing
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading


def _start(argv: list[str], user: list[int]) -> tuple[int, int]:
    """The pid of the work, in a session of its own, and 0, or the errno of a program that cannot be run."""
    reading, writing = os.pipe()  # closed by a successful exec
    pid = os.fork()
    if pid == 0:
        os.write(writing, b"%d" % _become(argv, user))
        os._exit(_NOT_RUN)
    os.close(writing)
    error = os.read(reading, 16)
    os.close(reading)
    return pid, int(error or 0)


def _become(argv: list[str], user: list[int]) -> int:
    """Turn into the work; returns the errno where that fails."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, which exec would hand on
            signal.signal(number, signal.SIG_DFL)
        if user:
            uid, gid, *groups = user
            _give_streams(uid, gid)
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
        return _exec(argv)
    except OSError as error:
        return error.errno or _NOT_RUN


def _give_streams(uid: int, gid: int) -> None:
    """Let the work open `/dev/stdin`, `/dev/stdout` and `/dev/stderr`: by pipes and unlinked files that are its own."""
    for descriptor in (0, 1, 2):
        status = os.fstat(descriptor)
        if stat.S_ISFIFO(status.st_mode) or status.st_nlink == 0:
            os.fchown(descriptor, uid, gid)


def _exec(argv: list[str]) -> int:
    """Like `os.execvp`, without its imports, whose files the work's user may not be able to read."""
    if "/" in argv[0]:
        os.execv(argv[0], argv)  # nosec B606 # what this program is for
    failure = _NOT_FOUND
    for folder in os.environ.get("PATH", os.defpath).split(":"):
        try:
            os.execv(f"{folder or '.'}/{argv[0]}", argv)  # nosec B606
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            failure = error.errno or failure
    return failure


def _let_go_of_output() -> None:
    """Only the work holds its pipes: their end is the work's."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)


def _reap(ended: dict[int, int]) -> bool:
    """Reap children that have ended. Returns whether any are left, including orphans of the work."""
    try:
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = found[1]
    except ChildProcessError:
        return False
    return True


def _clean_up(control: Control, work: int, ended: dict[int, int]) -> None:
    """End what is left, gracefully if there is time for that. Returns when no child is left."""
    if not _reap(ended):
        return
    if not control.at_once:
        for pid in descendants(os.getpid()) or [-work]:  # where there is no /proc: its group
            _signal(pid, signal.SIGTERM)
        _reap_until(control, time.monotonic() + GRACE, ended)
    step = STEP
    while _reap(ended):
        if not kill_all(os.getpid()):
            _signal(-work, signal.SIGKILL)
        _reap_until(control, time.monotonic() + step, ended)
        step = min(LONGEST_STEP, 2 * step)


def _reap_until(control: Control, deadline: float, ended: dict[int, int]) -> None:
    """Reap until no child is left, the time is up, or the agent wants the end at once."""
    was_at_once = control.at_once
    while _reap(ended) and control.at_once == was_at_once:
        left = deadline - time.monotonic()
        if left <= 0:
            return
        if control.at_once:  # its socket stays readable
            time.sleep(min(STEP, left))
        elif select.select([control.descriptor], [], [], min(STEP, left))[0]:
            control.hear()


def kill_all(ancestor: int, spared: Collection[int] = ()) -> set[int]:
    """SIGKILL every descendant; all are stopped first, so that none forks away while the others are killed.

    Returns their pids, those of zombies included.
    """
    stopped: set[int] = set()
    for _ in range(_MOST_LOOKS):
        fresh = set(descendants(ancestor, spared)) - stopped
        if not fresh:
            break
        for pid in fresh:
            _signal(pid, signal.SIGSTOP)
        stopped |= fresh
    for pid in stopped:
        _signal(pid, signal.SIGKILL)
    return stopped


def descendants(ancestor: int, spared: Collection[int] = ()) -> list[int]:
    """The children of a process, their children, and so on, but for those that are spared and what is below them."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        if pid not in spared:
            children.setdefault(parent, []).append(pid)
    found = [ancestor]
    for pid in found:
        found += children.get(pid, ())
    return found[1:]


def _parents() -> Iterator[tuple[int, int]]:
    """Each process that there is, and its parent."""
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stat:
                    yield int(name), int(stat.read().rpartition(b")")[2].split()[1])
            except OSError:  # it has ended
                continue


def _signal(pid: int, number: int) -> None:
    try:  # noqa: SIM105 # the import of contextlib costs more than all that we do
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _end_as(status: int) -> NoReturn:
    """End with the work's exit status, or by its signal; without a core of our own."""
    if not os.WIFSIGNALED(status):
        os._exit(os.waitstatus_to_exitcode(status))
    number = os.WTERMSIG(status)
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def run(control: str, user: str, *argv: str) -> NoReturn:
    """The program, with its arguments."""
    main(Control(int(control)), [int(number) for number in user.split()], list(argv))


if __name__ == "__main__":
    run(*sys.argv[1:])
