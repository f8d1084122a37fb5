"""An operator's work in Temporal's own Web UI, in a real Chromium (docs/operations.md, "In the Web UI").

Debian: `apt-get install chromium chromium-driver`. Without them the tests are skipped.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.conftest import Api

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
DRIVER = shutil.which("chromedriver") or ""
WITHIN_S = 40
NOT_YET = (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    NoSuchElementException,
    StaleElementReferenceException,
)
"""The page is still being built, or built anew."""

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="there is no Chromium with its driver: apt-get install chromium chromium-driver"
)


class WebUi:
    """The pages of Temporal's Web UI; each call waits until it can be done."""

    def __init__(self, url: str) -> None:
        self._workflows = f"{url}/namespaces/default/workflows"
        self._browser = webdriver.Chrome(options=_options(), service=Service(DRIVER))
        self._wait = WebDriverWait(self._browser, WITHIN_S, poll_frequency=0.1, ignored_exceptions=NOT_YET)

    def close(self) -> None:
        self._browser.quit()

    def signal(self, workflow_id: str, name: str, given: str = "") -> None:
        """Send a signal that the page offers."""
        self._browser.get(f"{self._workflows}/{workflow_id}")
        self._click("//button[contains(., 'More Actions')]")
        self._click("//*[@role='menuitem'][contains(., 'Send a Signal')]")
        self._click("//*[@data-testid='signal-select-button']")
        self._click(f"//dialog[@open]//li[@role='option'][.//span[normalize-space() = '{name}']]")
        if given:
            self._type("//dialog[@open]//*[@contenteditable='true']", given)
        self._click("//dialog[@open]//*[@data-testid='confirm-modal-button']")
        self._until(lambda: not self._browser.find_elements(By.XPATH, "//dialog[@open]"))

    def cancel(self, workflow_id: str) -> None:
        """Request the cancellation of a workflow."""
        self._browser.get(f"{self._workflows}/{workflow_id}")
        self._click("//button[contains(., 'Request Cancellation')]")
        self._click("//dialog[@open]//*[@data-testid='confirm-modal-button']")
        self._until(lambda: not self._browser.find_elements(By.XPATH, "//dialog[@open]"))

    def query(self, workflow_id: str, name: str, expected: str) -> str:
        """Run a query that the page offers; the answer as it is shown, once it holds what is expected."""
        self._browser.get(f"{self._workflows}/{workflow_id}")
        self._until(lambda: self._browser.current_url.endswith("/timeline"))
        self._browser.get(self._browser.current_url.replace("/timeline", "/query"))
        self._click("//*[@data-testid='query-select-button']")
        self._click(f"//li[@role='option'][.//span[normalize-space() = '{name}']]")
        self._click("//button[normalize-space() = 'Run Query']")
        return str(self._until(lambda: self._find(f"//*[@contenteditable='false'][contains(., '{expected}')]").text))

    def shows(self, text: str) -> bool:
        """Wait for a text on the page that is open."""
        return bool(self._until(lambda: self._browser.find_elements(By.XPATH, f'//*[contains(text(), "{text}")]')))

    def colour(self, workflow_id: str, status: str) -> str:
        """The colour of a status in the list, once the workflow is shown with it."""
        self._browser.get(f"{self._workflows}?query=WorkflowId%3D%22{workflow_id}%22")
        badge = f"//tr[.//a[normalize-space() = '{workflow_id}']]//*[@data-testid='execution-status']"
        shown = f"{badge}//span[normalize-space() = '{status}'][not(*)]/.."
        return str(self._until(lambda: self._find(shown).value_of_css_property("background-color")))

    def _find(self, xpath: str) -> WebElement:
        """The first one that is shown: the pages hold others, for narrow screens."""
        for found in self._browser.find_elements(By.XPATH, xpath):
            if found.is_displayed():
                return found
        raise NoSuchElementException(xpath)

    def _click(self, xpath: str) -> None:
        def clicked() -> bool:
            found = self._find(xpath)
            if not found.is_enabled():
                return False
            found.click()
            return True

        self._until(clicked)

    def _type(self, xpath: str, text: str) -> None:
        self._until(lambda: self._find(xpath))
        self._find(xpath).send_keys(text)
        self._until(lambda: self._find(xpath).text == text)

    def _until(self, check: Callable[[], Any]) -> Any:
        return self._wait.until(lambda _: check(), message=self._browser.current_url)


def _options() -> webdriver.ChromeOptions:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for one in ("--headless=new", "--no-proxy-server", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(one)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # it refuses to run as root with one
    return options


@pytest.fixture(scope="module")
async def web_ui(api: Api) -> AsyncIterator[WebUi]:
    url = api.stack.services.temporal_ui_url
    assert url is not None
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NO_PROXY", "127.0.0.1,localhost")  # to the driver
        environment.setenv("no_proxy", "127.0.0.1,localhost")
        ui = await asyncio.to_thread(WebUi, url)
    yield ui
    await asyncio.to_thread(ui.close)


async def test_an_operator_faults_a_node_and_recovers_it(api, web_ui, make_node):
    node = await make_node("in_the_ui", [740])
    task = await api.create(740)
    await node.next_put()
    other = await make_node("beside_it", [740])
    await asyncio.to_thread(web_ui.signal, "gpu-in_the_ui", "fault", '{"reason": "ECC errors"}')
    assert await asyncio.to_thread(web_ui.shows, "fault by a person's signal")
    await api.gpu_until("in_the_ui", "FAULTY")
    assert (await other.next_put()).task_id == task
    (alert,) = await api.alerts("in_the_ui ")
    assert "ECC errors" in alert["message"]
    assert '"epoch": 1' in await asyncio.to_thread(web_ui.query, "gpu-in_the_ui", "state", "FAULTY")

    await asyncio.to_thread(web_ui.signal, "gpu-in_the_ui", "recover")
    await api.gpu_until("in_the_ui", "ACTIVE")
    entries = [one for one in await api.get("/audit?owner=temporal") if one["subject"] == "in_the_ui"]
    assert [one["action"] for one in entries] == ["gpu.recover", "gpu.fault"]


async def test_the_list_tells_how_tasks_ended(api, web_ui, make_node):
    node = await make_node("listed", [741])
    completed, failed = [await api.create(741, maxRetries=0) for _ in range(2)]
    for _ in range(2):
        put = await node.next_put()
        if put.task_id == completed:
            await api.succeed(put, {})
        else:
            await api.say(put, "FAILED", "boom")
    await api.until(completed, "COMPLETED")
    await api.until(failed, "FAILED")
    red = await asyncio.to_thread(web_ui.colour, f"task-{failed}", "Failed")
    assert red != await asyncio.to_thread(web_ui.colour, f"task-{completed}", "Completed")


async def test_an_operator_cancels_tasks(api, web_ui, make_node):
    node = await make_node("cancels_in_ui", [679])
    begun, waiting = await api.create(679), await api.create(679)
    put = await node.next_put()
    await api.until(begun, "PROCESSING")
    for task_id in (waiting, begun):
        await asyncio.to_thread(web_ui.cancel, f"task-{task_id}")
        assert (await api.until(task_id, "FAILED"))["endReason"] == "CANCELLED"
        await asyncio.to_thread(web_ui.colour, f"task-{task_id}", "Canceled")
    assert node.canceled == [put.run_id]
    entries = await api.get("/audit?owner=temporal&action=task.cancel&size=100")
    assert {begun, waiting} <= {one["subject"] for one in entries}
