"""A real browser for tests: Playwright drives Debian's Chromium (`apt-get install chromium`)."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, async_playwright

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
NEEDS_CHROMIUM = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium: apt-get install chromium")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A headless Chromium, closed at the end."""
    arguments = ["--no-proxy-server", "--disable-dev-shm-usage"]
    is_root = os.geteuid() == 0  # it refuses to run as root with a sandbox
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=arguments, chromium_sandbox=not is_root
        )
        yield browser
        await browser.close()
