"""Makes docs/report.png, the picture in the README, from the report of a run:

    gradtape train --watch && gradtape report --run runs/gpt --no-measure && python docs/make_screenshot.py report.html

Without times, which are those of the machine at that moment.

Needs Chromium with its driver, and selenium, as the tests of the report do. The page is shown as it opens, with the
blocks selected.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from browser import browser

TARGET = Path(__file__).resolve().parent / "report.png"
WIDTH, HEIGHT = 1280, 1510


def main(report: Path) -> None:
    with browser() as page:
        page.open(report.resolve(), WIDTH)
        page.click('svg.graph .box[data-key="forward|blocks.0"]')
        page.wait("document.querySelector('svg.graph .box.selected')")
        page.js("document.activeElement.blur(); scrollTo(0, 0)")
        part = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": 1}
        options = {"format": "png", "captureBeyondViewport": True, "clip": part}
        picture = page.driver.execute_cdp_cmd("Page.captureScreenshot", options)
    TARGET.write_bytes(base64.b64decode(picture["data"]))
    print(f"wrote {TARGET.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
