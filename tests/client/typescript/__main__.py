"""TypeScript from the OpenAPI document: `python -m tests.client.typescript`, or `make test-typescript`.

It generates the types, and checks a program that uses them. It needs Node and npm, which fetches what the lock file
pins into a temporary folder.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.unit.whole_api import document

HERE = Path(__file__).parent
STEPS = (
    ("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"),
    ("node_modules/.bin/openapi-typescript", "openapi.json", "--output", "api.ts"),
    ("node_modules/.bin/tsc",),
)


def main() -> int:
    """Do the steps, and return the status of the first that fails, or 0."""
    if shutil.which("npm") is None:
        sys.exit("error: there is no npm: install Node 20 or newer (Debian, Ubuntu: apt install nodejs npm)")
    with tempfile.TemporaryDirectory() as folder:
        for file in (*HERE.glob("*.json"), *HERE.glob("*.ts")):
            shutil.copy(file, folder)
        Path(folder, "openapi.json").write_text(json.dumps(document()), encoding="utf-8")
        return next((status for step in STEPS if (status := subprocess.call(step, cwd=folder))), 0)


if __name__ == "__main__":
    sys.exit(main())
