"""`/docs`: Swagger UI over the OpenAPI document. The page's script and style are served from here."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from api.http.files import Folder

NAMES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")


def install(app: FastAPI) -> None:
    """Add the page and its files."""
    static = Path(str(files("fastapi_offline"))) / "static"
    folder = Folder("docs/assets", (static / name for name in NAMES))
    script, style, icon = map(folder.url_of, NAMES)
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url=script,
        swagger_css_url=style,
        swagger_favicon_url=icon,
        swagger_ui_parameters={"validatorUrl": None},  # it would send the document to a public service
    )
    app.add_route("/docs/assets/{name}", folder.answer, include_in_schema=False)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return page
