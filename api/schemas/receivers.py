"""The URL of a receiver of webhooks."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from api.http.errors import refusal
from infra.webhooks.target import MAX_URL, BadUrl, parse

PATTERN = r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[!-~]*)?$"
"""The form of a URL as the document shows it. Names in other scripts are taken too."""


def _url(text: str) -> str:
    """The URL as it is called."""
    try:
        return str(parse(text).url)
    except BadUrl as error:
        raise refusal(str(error)) from None


Url = Annotated[
    str,
    AfterValidator(_url),
    Field(
        json_schema_extra={"pattern": PATTERN, "maxLength": MAX_URL},
        description="https 地址，端口 443；`WEBHOOK_NETWORKS` 列出的网络还允许 http 和其他端口。不能包含用户名或密码",
    ),
]
