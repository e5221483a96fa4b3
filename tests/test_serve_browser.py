"""The page in a browser, along a person's path: two images, an answer, one band off, many pairs, a bad file.

It is run where there are Gradio, Playwright and a Chromium: in the path, or named by CROSSBAND_CHROMIUM.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from browser import CHROMIUM, NEEDS_CHROMIUM
from serving import SIZE, counts, server

MISSING = [name for name in ("gradio", "playwright") if find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"the page in a browser needs {' and '.join(MISSING)}"),
    NEEDS_CHROMIUM,
]
PATIENCE = 60_000


@pytest.fixture(scope="module")
def address(street_run: Path) -> Iterator[str]:
    with server(str(street_run), "average") as (place, _):
        yield place


@contextmanager
def opened(address: str) -> Iterator[Any]:
    """The page, opened; at the end its browser must have asked nobody else for anything."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.wait_for_selector("#answer")
        yield page
        hosts = {urlsplit(url).netloc for url in asked if url.startswith(("http", "ws"))}
        browser.close()
    assert hosts == {urlsplit(address).netloc}
    assert len(asked) > 5


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    with opened(address) as page:
        yield page


def put(page: Any, where: str, *paths: Path) -> None:
    """Choose files, and wait until they are there."""
    page.set_input_files(f"#{where} input[type=file]", [str(path) for path in paths])
    page.wait_for_function(
        "([where, count]) => document.querySelectorAll(`#${where} tr.file`).length == count",
        arg=[where, len(paths)],
    )


def test_a_pair_is_answered_and_a_band_switched_off(page: Any, street_pairs: dict[str, list[Path]]) -> None:
    put(page, "Visible-one", street_pairs["visible"][0])
    put(page, "Infrared-one", street_pairs["infrared"][0])
    page.click("#answer")
    shown = page.wait_for_selector("#answer-shown .cb section.v0")
    assert shown.is_visible()
    assert [one.inner_text() for one in page.query_selector_all("section.v0 figcaption")] == [
        *("overlay", "confidence (white: certain)"),
    ]
    assert "Answered on both bands" in shown.inner_text()
    assert "<b>person</b>" in page.inner_text("section.v0") or "%" in page.inner_text("section.v0 table")
    sizes = page.eval_on_selector_all(
        "section.v0 img", "images => images.map(one => [one.naturalHeight, one.naturalWidth])"
    )
    assert sizes == [list(SIZE)] * 2
    page.click("text=infrared alone")
    assert not shown.is_visible()
    assert "of the pixels have another class" in page.inner_text("section.v2")
    page.click("text=side by side")
    assert page.inner_text("section.v3").count("of the pixels change") == 2


def test_the_page_answers_under_a_name_of_the_machine(
    address: str, street_pairs: dict[str, list[Path]]
) -> None:
    by_name = address.replace("127.0.0.1", "localhost")
    assert by_name != address
    with opened(by_name) as page:
        put(page, "Infrared-one", street_pairs["infrared"][0])
        page.click("#answer")
        page.wait_for_selector("#answer-shown section figure")
        assert "Answered on infrared alone" in page.inner_text("#answer-shown")


def test_another_system_takes_counts_alone(page: Any, tmp_path: Path) -> None:
    page.click("#system input")
    page.click("text=average >> nth=-1")
    put(page, "Infrared-one", counts(tmp_path / "hot.tiff", 9000, 12000))
    page.click("#answer")
    page.wait_for_selector("#answer-shown section figure")
    text = page.inner_text("#answer-shown")
    assert "fused" in text
    assert "scaled by fixed(" in text


def test_many_pairs_come_as_one_zip(page: Any, street_pairs: dict[str, list[Path]], tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    page.get_by_role("tab", name="Many pairs").click()
    put(page, "Visible-many", *street_pairs["visible"], tmp_path / "bad.png")
    put(page, "Infrared-many", *street_pairs["infrared"])
    page.click("#answer-all")
    page.wait_for_selector("#batch-shown .cb")
    told = page.inner_text("#batch-shown")
    assert "3 pairs answered." in told
    assert "bad.png: " in told
    with page.expect_download() as download:
        page.click("#archive")
    archive = zipfile.ZipFile(download.value.path())
    assert sum(name.startswith("label/") for name in archive.namelist()) == 3


def test_a_bad_file_and_two_sizes_are_told_in_one_line(
    page: Any, street_pairs: dict[str, list[Path]], tmp_path: Path
) -> None:
    page.click("#answer")
    page.wait_for_selector("#answer-shown [role=alert]")
    assert "no image was sent" in page.inner_text("#answer-shown")
    put(page, "Visible-one", street_pairs["visible"][0])
    put(page, "Infrared-one", counts(tmp_path / "other.tiff", 0, 65535, (16, 48)))
    page.click("#answer")
    page.wait_for_selector("#answer-shown [role=alert] >> text=other.tiff is 16 x 48")
    assert "/tmp" not in page.content()
