"""Makes docs/report.png, the picture of a report in the README: `python docs/make_screenshot.py report.html`.

Needs Chromium with its driver, and selenium, as the tests of the report do. The page is shown as it opens, with one
module unfolded and one node of it selected.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from browser import browser

TARGET = Path(__file__).resolve().parent / "report.png"
WIDTH, HEIGHT = 1280, 1340


def main(report: Path) -> None:
    with browser() as page:
        page.open(report.resolve(), WIDTH)
        page.find("#search").send_keys("attn softmax")
        page.press("Enter")
        page.wait("document.querySelector('svg.graph .box.selected')?.textContent.includes('softmax')")
        page.js("document.querySelector('#search').value = ''; document.activeElement.blur(); scrollTo(0, 0)")
        part = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": 1}
        options = {"format": "png", "captureBeyondViewport": True, "clip": part}
        picture = page.driver.execute_cdp_cmd("Page.captureScreenshot", options)
    TARGET.write_bytes(base64.b64decode(picture["data"]))
    print(f"wrote {TARGET.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
