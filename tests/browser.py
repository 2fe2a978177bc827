"""A headless Chromium for tests of HTML; they skip where there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def missing() -> str:
    """Why there is no browser to test with, or ""."""
    if not any(map(shutil.which, BROWSERS)) or not shutil.which("chromedriver"):
        return "no Chromium with its driver; on Debian: apt-get install chromium chromium-driver"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "no selenium: pip install '.[test]'"
    return ""


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a window and without a profile; it may open nothing but files."""
    if why := missing():
        pytest.skip(why)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, BROWSERS)))
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.set_script_timeout(60)
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, width: int = 1280, dark: bool = False) -> None:
        """Opens a report and waits until it is drawn; it has said nothing on the console, asked for nothing."""
        driver = self.driver
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        driver.get_log("browser"), driver.get_log("performance")
        driver.get(path.as_uri())
        self.wait("document.documentElement.dataset.ready")
        self.quiet()
        assert self.js("return document.documentElement.dataset.ready") == "true"
        asked = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        urls = [m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"]
        assert [url for url in urls if not url.startswith(("data:", path.as_uri()))] == []

    def quiet(self) -> None:
        """Nothing was said on the console: no error, no refusal of the page's own rules."""
        assert [entry["message"] for entry in self.driver.get_log("browser")] == []

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: str, seconds: float = 20) -> Any:
        """Until the expression is true; returns what it is then."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, 0.05).until(lambda d: d.execute_script(f"return {condition}"))

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """The text of each, also of what is scrolled out of sight."""
        return self.js("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent.trim())", selector)

    def click(self, selector: str, times: int = 1) -> None:
        """As with a mouse, on the middle of an element."""
        from selenium.webdriver.common.action_chains import ActionChains

        element = self.find(selector)
        self.js("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        actions = ActionChains(self.driver).move_to_element(element)
        (actions.double_click if times == 2 else actions.click)().perform()

    def press(self, *keys: str) -> None:
        """Keys by name, `ArrowDown` or `a`, to what has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        names = {f"Arrow{n}": getattr(Keys, f"ARROW_{n.upper()}") for n in ("Up", "Down", "Left", "Right")}
        names |= {"Enter": Keys.ENTER, "Tab": Keys.TAB, "Escape": Keys.ESCAPE, "Backspace": Keys.BACKSPACE}
        for key in keys:
            ActionChains(self.driver).send_keys(names.get(key, key)).perform()
