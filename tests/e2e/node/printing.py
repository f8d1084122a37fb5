"""Work that prints what its input says, and ends as it says."""

from __future__ import annotations

import json
import sys

task = json.load(sys.stdin)
sys.stdout.buffer.write(task.get("out", "").encode())
sys.stderr.write(task.get("err", ""))
sys.exit(task.get("status", 0))
