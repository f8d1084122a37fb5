"""The page in `docs/api.md`, served as it says: it follows a task from another origin, if that is allowed."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.conftest import Api
from tests.stack_settings import stack_settings
from workers.stack.stack import Stack

DOCUMENT = Path("docs/api.md").read_text()
ITS_API, ITS_ORIGIN = "http://localhost:8080", "http://localhost:3000"


class Quiet(SimpleHTTPRequestHandler):
    """The handler of `python3 -m http.server`, without its log."""

    def log_message(self, format: str, *values: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def origin(folder: Path) -> Iterator[str]:
    """Serves the folder; in the document's page it is `ITS_ORIGIN`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
async def page_s_stack(tmp_path_factory: pytest.TempPathFactory, origin: str) -> AsyncIterator[Stack]:
    """`make run` as the document starts it."""
    async with Stack(stack_settings(tmp_path_factory.mktemp("stack"), cors_origins=origin), nodes=1) as running:
        yield running


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    context = await browser.new_context()
    page = await context.new_page()
    page.set_default_timeout(15_000)
    yield page
    await context.close()


async def press(page: Page, folder: Path, origin: str, api_url: str, key: str) -> None:
    """Open the document's page, which differs in the API's address alone, give it a key, and press its button."""
    assert f"ORCHESTRATOR_CORS_ORIGINS={ITS_ORIGIN} make run" in DOCUMENT
    (html,) = re.findall(r"```html\n(.*?)```", DOCUMENT, re.DOTALL)
    assert html.count(ITS_API) == 1
    (folder / "index.html").write_text(html.replace(ITS_API, api_url))
    await page.goto(origin)
    await page.fill("#key", key)
    await page.click("#go")


async def test_it_follows_a_task_to_its_end(page: Page, folder: Path, origin: str, page_s_stack: Stack) -> None:
    key = page_s_stack.api_key.secret.get_secret_value()
    await press(page, folder, origin, page_s_stack.api_url, key)
    shown = page.locator("#out")
    await expect(shown).to_contain_text("end COMPLETED", timeout=30_000)
    lines = (await shown.inner_text()).split("\n")
    assert lines[0].startswith("snapshot ")
    assert [line for line in lines if line.startswith("status ")][-1] == "status COMPLETED"
    assert (page_s_stack.data_dir.root / "demo/out.png").exists()


async def test_it_shows_why_a_key_is_refused(page: Page, folder: Path, origin: str, page_s_stack: Stack) -> None:
    await press(page, folder, origin, page_s_stack.api_url, "wrong")
    await expect(page.locator("#out")).to_have_text(re.compile(r"^Error: .+"))


async def test_without_the_setting_the_browser_refuses(page: Page, folder: Path, origin: str, api: Api) -> None:
    complaints: list[str] = []
    page.on("console", lambda one: complaints.append(one.text))
    await press(page, folder, origin, api.stack.api_url, api.key)
    await expect(page.locator("#out")).to_have_text("TypeError: Failed to fetch\n")
    assert "`TypeError: Failed to fetch`" in DOCUMENT
    assert any("CORS" in one for one in complaints)
