"""Draw the pictures of docs/serve.md: the page in a headless Chromium, with an answer on it.

    python docs/draw_serve.py RUN PAIRS --out docs/images/serve.webp

RUN is a finished run folder, PAIRS a folder with visible/ and infrared/; ``--name`` is shown of it. It needs
Gradio, Playwright and a Chromium, in the path or named by CROSSBAND_CHROMIUM. A second picture shows all
answers side by side.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from PIL import Image

WIDTH = 1100


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--name", help="of the pair (default: the last one by night, or of all)")
    parser.add_argument("--out", type=Path, default=Path("docs/images/serve.webp"))
    options = parser.parse_args()
    names = sorted(path.stem for path in (options.pairs / "visible").iterdir())
    name = options.name or ([name for name in names if "night" in name] or names)[-1]
    pair = {band: next((options.pairs / band).glob(f"{name}.*")) for band in ("visible", "infrared")}
    command = [sys.executable, "-m", "crossband", "serve", options.run, "guided", "--port", "0"]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        assert server.stdout is not None
        draw(server.stdout.readline().split(" at ")[1].split()[0], pair, options.out)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def draw(address: str, pair: dict[str, Path], out: Path) -> None:
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CROSSBAND_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        page.set_default_timeout(120_000)
        page.goto(address)
        for band, path in pair.items():
            place = f"#{band.capitalize()}-one"
            page.wait_for_selector(f"{place} input[type=file]", state="attached")
            page.set_input_files(f"{place} input[type=file]", str(path))
            page.wait_for_selector(f"{place} tr.file")
        page.click("#answer")
        page.wait_for_selector("#answer-shown section.v0 img")
        keep(page.screenshot(full_page=True), out)
        page.click("text=side by side")
        shown = page.query_selector("#answer-shown section.v3")
        keep(shown.screenshot(), out.with_stem(f"{out.stem}-bands"))
        browser.close()


def keep(png: bytes, out: Path) -> None:
    Image.open(io.BytesIO(png)).convert("RGB").save(out, quality=80, method=6)
    print(f"written: {out} ({out.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main()
