"""A script that uses nothing but the client: `python hundred.py TYPE NUMBER` prints the result of each task.

Its address and key are in the environment. It runs in an environment of its own, so it imports nothing else of ours.
"""

from __future__ import annotations

import json
import sys

from gpu_orchestrator_client import Client


def main(task_type: int, number: int) -> None:
    """Create the tasks, and print their results in order, one a line."""
    with Client(app="client", user_id="client") as client:
        for result in client.map(task_type, ({"n": n} for n in range(number)), timeout=600):
            sys.stdout.write(json.dumps(result) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
