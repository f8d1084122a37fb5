"""Work as a program: the task comes on standard input, progress goes to standard error, the result is a JSON line."""

from __future__ import annotations

import json
import os
import sys

task = json.load(sys.stdin)
sys.stdout.write("loading\n")
sys.stderr.write("progress 65\n")
sys.stdout.write(json.dumps({"got": task, "id": os.environ["TASK_ID"]}) + "\n")
sys.stdout.write("done\n")
