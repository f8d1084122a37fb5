"""What an output must be to travel as a result (§3.7)."""

from __future__ import annotations

import json

from workers.node import strict_json
from workers.node.errors import BadOutput

OUTPUT_LIMIT = 900 * 1024  # bytes of JSON text
_REPORT_LIMIT = 1000 * 1024  # bytes of the report, under the orchestrator's 1 MiB


def output_text(value: object) -> str:
    """The JSON text of an output; raises BadOutput."""
    try:
        text = strict_json.dumps(value)
    except (ValueError, TypeError) as error:
        raise BadOutput(f"the output is not JSON: {error}") from None
    check_size(len(text.encode()))
    # Quotes and backslashes double when the text becomes a string of the report.
    if len(json.dumps(text, ensure_ascii=False).encode()) > _REPORT_LIMIT:
        raise BadOutput(f"the output is larger than {_REPORT_LIMIT} bytes as a JSON string")
    return text


def check_size(size: int) -> None:
    """Raises BadOutput."""
    if size > OUTPUT_LIMIT:
        raise BadOutput(f"the output is larger than {OUTPUT_LIMIT} bytes")
