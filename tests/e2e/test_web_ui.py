"""An operator's work in Temporal's own Web UI, in a real Chromium (docs/operations.md, "In the Web UI").

Without Chromium the tests are skipped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect

from tests.browser import NEEDS_CHROMIUM, chromium
from tests.conftest import Api

WITHIN_MS = 40_000

pytestmark = NEEDS_CHROMIUM


class WebUi:
    """The pages of Temporal's Web UI; each call waits until it can be done."""

    def __init__(self, page: Page, url: str) -> None:
        self._page = page
        self._workflows = f"{url}/namespaces/default/workflows"
        self._dialog = page.locator("dialog[open]")
        page.set_default_timeout(WITHIN_MS)

    async def signal(self, workflow_id: str, name: str, given: str = "") -> None:
        """Send a signal that the page offers."""
        await self._page.goto(f"{self._workflows}/{workflow_id}")
        await self._page.get_by_role("button", name="More Actions").click()
        await self._page.get_by_role("menuitem", name="Send a Signal").click()
        await self._choose("signal-select-button", name)
        if given:
            await self._dialog.locator("[contenteditable=true]").press_sequentially(given)
        await self._confirm()

    async def cancel(self, workflow_id: str) -> None:
        """Request the cancellation of a workflow."""
        await self._page.goto(f"{self._workflows}/{workflow_id}")
        await self._page.get_by_role("button", name="Request Cancellation").click()
        await self._confirm()

    async def query(self, workflow_id: str, name: str, expected: str) -> str:
        """Run a query that the page offers; the answer as it is shown, once it holds what is expected."""
        await self._page.goto(f"{self._workflows}/{workflow_id}")
        await self._page.wait_for_url("**/timeline")
        await self._page.goto(self._page.url.replace("/timeline", "/query"))
        await self._choose("query-select-button", name)
        await self._page.get_by_role("button", name="Run Query").click()
        return await self._page.locator("[contenteditable=false]").filter(has_text=expected).first.inner_text()

    async def shows(self, text: str) -> None:
        """Wait for a text on the page that is open."""
        await self._page.get_by_text(text).first.wait_for()

    async def colour(self, workflow_id: str, status: str) -> str:
        """The colour of a status in the list, once the workflow is shown with it."""
        await self._page.goto(f"{self._workflows}?query=WorkflowId%3D%22{workflow_id}%22")
        row = self._page.get_by_role("row").filter(has=self._page.get_by_role("link", name=workflow_id, exact=True))
        badge = row.get_by_test_id("execution-status").get_by_text(status, exact=True).first
        return str(await badge.evaluate("one => getComputedStyle(one.parentElement).backgroundColor"))

    async def _choose(self, button: str, name: str) -> None:
        """Choose an option among those that are shown: the pages hold others, for narrow screens."""
        await self._page.get_by_test_id(button).filter(visible=True).first.click()
        option = self._page.get_by_role("option").filter(has=self._page.get_by_text(name, exact=True))
        await option.filter(visible=True).first.click()

    async def _confirm(self) -> None:
        await self._dialog.get_by_test_id("confirm-modal-button").click()
        await expect(self._dialog).to_have_count(0, timeout=WITHIN_MS)


@pytest.fixture(scope="module")
async def web_ui(api: Api) -> AsyncIterator[WebUi]:
    url = api.stack.services.temporal_ui_url
    assert url is not None
    async with chromium() as browser:
        yield WebUi(await browser.new_page(viewport={"width": 1400, "height": 1000}), url)


async def test_an_operator_faults_a_node_and_recovers_it(api, web_ui, make_node):
    node = await make_node("in_the_ui", [944])
    task = await api.create(944)
    await node.next_put()
    other = await make_node("beside_it", [944])
    await web_ui.signal("gpu-in_the_ui", "fault", '{"reason": "ECC errors"}')
    await web_ui.shows("fault by a person's signal")
    await api.gpu_until("in_the_ui", "FAULTY")
    assert (await other.next_put()).task_id == task
    (alert,) = await api.alerts("in_the_ui ")
    assert "ECC errors" in alert["message"]
    assert '"epoch": 1' in await web_ui.query("gpu-in_the_ui", "state", "FAULTY")

    await web_ui.signal("gpu-in_the_ui", "recover")
    await api.gpu_until("in_the_ui", "ACTIVE")
    entries = [one for one in await api.get("/audit?owner=temporal") if one["subject"] == "in_the_ui"]
    assert [one["action"] for one in entries] == ["gpu.recover", "gpu.fault"]


async def test_the_list_shows_how_tasks_ended(api, web_ui, make_node):
    node = await make_node("listed", [945])
    completed, failed = [await api.create(945, maxRetries=0) for _ in range(2)]
    for _ in range(2):
        put = await node.next_put()
        if put.task_id == completed:
            await api.succeed(put, {})
        else:
            await api.say(put, "FAILED", "boom")
    await api.until(completed, "COMPLETED")
    await api.until(failed, "FAILED")
    red = await web_ui.colour(f"task-{failed}", "Failed")
    assert red != await web_ui.colour(f"task-{completed}", "Completed")


async def test_an_operator_cancels_tasks(api, web_ui, make_node):
    node = await make_node("cancels_in_ui", [679])
    begun, waiting = await api.create(679), await api.create(679)
    put = await node.next_put()
    await api.until(begun, "PROCESSING")
    for task_id in (waiting, begun):
        await web_ui.cancel(f"task-{task_id}")
        assert (await api.until(task_id, "FAILED"))["endReason"] == "CANCELLED"
        await web_ui.colour(f"task-{task_id}", "Canceled")
    assert node.canceled == [put.run_id]
    entries = await api.get("/audit?owner=temporal&action=task.cancel&size=100")
    assert {begun, waiting} <= {one["subject"] for one in entries}
