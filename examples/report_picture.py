"""Take the picture of a report that the documentation shows.

    python examples/report_picture.py figclip-demo/report.html docs/pictures/report.png

Needs playwright (pip install playwright) and a chromium of the system (apt-get install chromium).
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image

_COLOURS = 128  # a page has few, and fewer make a small file


def main() -> None:
    parser = argparse.ArgumentParser(description="Take a picture of the top of a report, or of one of its sections.")
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1200, help="Of the window, in pixels.")
    parser.add_argument("--height", type=int, default=1500, help="Of the picture, in pixels.")
    parser.add_argument("--section", help="Begin at this section: retrieval, compositional, trade-off and so on.")
    parser.add_argument("--dark", action="store_true", help="As who prefers dark sees it.")
    asked = parser.parse_args()
    image = taken(asked.report, asked.width, asked.height, asked.section, dark=asked.dark)
    asked.picture.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(_COLOURS).save(asked.picture, optimize=True)
    print(f"{asked.picture}: {asked.picture.stat().st_size:,} bytes")


def taken(report: Path, width: int, height: int, section: str | None, *, dark: bool) -> Image.Image:
    """Return what a browser shows of the page, from the top or from where a section begins."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        raise SystemExit("there is no chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        page.goto(report.resolve().as_uri())
        if section is not None:
            page.locator(f"#{section}").evaluate("(one) => one.scrollIntoView()")
        picture = page.screenshot()
        browser.close()
    return Image.open(io.BytesIO(picture)).convert("RGB")


if __name__ == "__main__":
    main()
