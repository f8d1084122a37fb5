"""Work that starts processes which try to outlive it, all with its token among their arguments; then does as asked."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time

DAEMON = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
for _ in range(2):
    if os.fork():
        os._exit(0)
    os.setsid()
time.sleep(600)
"""
HOPPER = """
import os, time
os.setsid()
while not os.fork():  # the parent ends, the child goes on
    time.sleep(0.001)
"""
CROWD = """
import os, time
for _ in range(5):
    os.fork()
os.setsid() if os.getpid() != os.getpgid(0) else None
time.sleep(600)
"""


def main() -> None:
    task = json.load(sys.stdin)
    token = str(task["token"])
    subprocess.Popen(["env", "-i", "setsid", "sh", "-c", "sleep 600; true", token])
    for program in (DAEMON, HOPPER, CROWD):
        subprocess.Popen(["env", "-i", sys.executable, "-c", program, token])
    time.sleep(0.6)  # until they are what they will be
    with open(task["here"], "w"):
        pass
    if task["then"] == "kill the supervisor":
        os.kill(os.getppid(), signal.SIGKILL)
    if task["then"] == "ask the supervisor to end":
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(0.2)
    if task["then"] == "make the supervisor fail":
        resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (0, 0))
    if task["then"] in ("wait", "kill the supervisor"):
        time.sleep(600)
    sys.stdout.write("{}\n")


main()
