"""``crossband serve``: its command, its interface over HTTP, and its page by Gradio."""

from __future__ import annotations

import io
import json
import re
import runpy
import signal
import socket
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import crossband as cb
from command_line import refused
from serving import NAMES, SIZE, image, server

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "ask_server.py"
needs_gradio = pytest.mark.skipif(
    find_spec("gradio") is None, reason="the page needs gradio: pip install 'crossband[serve]'"
)


@pytest.fixture(scope="module")
def address(street_run: Path) -> Iterator[str]:
    limits = ["--max_megabytes", "0.2", "--max_pairs", "3"]
    with server(str(street_run), "average", *limits) as (place, _):
        yield place


def example(name: str) -> Any:
    return runpy.run_path(str(EXAMPLE))[name]


def got(address: str) -> bytes:
    with urllib.request.urlopen(address) as answer:
        read: bytes = answer.read()
        return read


def refusal(address: str, files: dict[str, Path], **fields: str) -> tuple[int, str]:
    with pytest.raises(urllib.error.HTTPError) as caught:
        example("post")(address, files, **fields)
    text = caught.value.read().decode()
    assert "/tmp" not in text
    return caught.value.code, json.loads(text)["error"]


class TestCommand:
    def test_gradio_that_is_not_installed_is_named(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "gradio", None)
        assert "pip install 'crossband[serve]'" in refused(["serve", "average"], capsys)

    def test_a_scaling_that_no_run_takes_is_refused(
        self, capsys: pytest.CaptureFixture[str], street_run: Path
    ) -> None:
        told = refused(["serve", str(street_run), "--infrared_scaling", "minmax"], capsys)
        assert "--infrared_scaling is for systems that need no training" in told

    @needs_gradio
    def test_what_is_refused(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            assert f"port {port} of 127.0.0.1" in refused(["serve", "average", "--port", port], capsys)
        assert "must be above 0" in refused(["serve", "average", "--max_pairs", "0"], capsys)
        assert "is not there" in refused(["serve", str(tmp_path / "nothing")], capsys)
        assert "given twice" in refused(["serve", "average", "average", "--port", "0"], capsys)

    @needs_gradio
    @pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_it_also_with_a_page_that_listens(self, ending: signal.Signals) -> None:
        with server("average") as (place, process):
            host, _, port = place.removeprefix("http://").partition(":")
            with socket.create_connection((host, int(port))) as open_page:
                open_page.sendall(b"GET /gradio_api/heartbeat/x HTTP/1.1\r\nHost: x\r\n\r\n")
                assert open_page.recv(12)
                process.send_signal(ending)
                printed, told = process.communicate(timeout=60)
        assert process.returncode == 128 + ending
        assert printed == ""
        assert told.count("\n") == 1, told
        assert told.startswith("crossband: ")


@needs_gradio
class TestInterface:
    def test_what_is_served(self, address: str, street_run: Path) -> None:
        text = got(f"{address}/api").decode()
        told = json.loads(text)
        assert [one["name"] for one in told["systems"]] == ["street", "average"]
        assert [one["name"] for one in told["systems"][0]["classes"]] == list(NAMES)
        assert told["limits"]["pairs"] == 3
        assert str(street_run.parent) not in text

    def test_the_example_asks(
        self,
        address: str,
        street_run: Path,
        street_pairs: dict[str, list[Path]],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        bands = street_pairs["visible"][0], street_pairs["infrared"][0]
        example("main")(address, *map(str, bands), str(tmp_path / "overlay.png"))
        result = cb.load(street_run, device="cpu")(*bands)
        shown = np.asarray(Image.open(tmp_path / "overlay.png"))
        np.testing.assert_array_equal(shown, np.asarray(result.overlay()))
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1].startswith("infrared alone (designed): ")
        assert result.labels is not None
        share = float((result.labels == 0).mean())
        assert share == 0 or f"road: {100 * share:.1f} %" in lines

    def test_the_example_keeps_the_picture_of_a_system_that_only_fuses(
        self, street_pairs: dict[str, list[Path]], tmp_path: Path
    ) -> None:
        bands = street_pairs["visible"][0], street_pairs["infrared"][0]
        with server("learned") as (place, _):
            example("main")(place, *map(str, bands), str(tmp_path / "fused.png"))
        fused = cb.load("learned", device="cpu")(*bands).fused
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "fused.png")), fused)

    def test_a_batch_comes_as_one_zip(self, address: str, street_pairs: dict[str, list[Path]]) -> None:
        body = b"".join(
            f'--x\r\nContent-Disposition: form-data; name="{band}"; filename="{path.name}"\r\n\r\n'.encode()
            + path.read_bytes()
            + b"\r\n"
            for band, paths in street_pairs.items()
            for path in paths
        )
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        request = urllib.request.Request(f"{address}/api/batch", body + b"--x--\r\n", kind)
        with urllib.request.urlopen(request) as answer:
            assert answer.headers["x-pairs-done"] == "3"
            archive = zipfile.ZipFile(io.BytesIO(answer.read()))
        assert len([name for name in archive.namelist() if name.startswith("label/")]) == 3

    def test_refused_in_one_line(
        self, address: str, street_pairs: dict[str, list[Path]], tmp_path: Path
    ) -> None:
        good = street_pairs["visible"][0]
        bad = tmp_path / "bad.png"
        bad.write_bytes(b"no image")
        large = tmp_path / "large.png"
        large.write_bytes(b"x" * 210_000)
        huge = tmp_path / "huge.png"
        huge.write_bytes(b"x" * 1_500_000)
        answer = f"{address}/api/answer"
        assert refusal(answer, {"visible": bad})[0] == 400
        assert refusal(answer, {"visible": large}) == (
            *(413,),
            "large.png: 0.2 MB, and 0.2 MB are taken at most",
        )
        assert "no more than" in refusal(answer, {"visible": huge})[1]
        assert refusal(answer, {}, visible="text")[1].startswith("visible is a text")
        assert refusal(answer, {"visible": good}, system="x")[0] == 404
        assert "no field 'visble'; there are visible, infrared, " in refusal(answer, {"visble": good})[1]
        assert "no field 'compare'" in refusal(f"{address}/api/batch", {"visible": good}, compare="true")[1]
        assert "true or false, not 'maybe'" in refusal(answer, {"visible": good}, compare="maybe")[1]
        assert "false colours" in refusal(answer, {"infrared": image(tmp_path / "rgb.png")})[1]


@needs_gradio
class TestPage:
    def test_it_names_no_other_host_and_no_place(self, address: str, street_run: Path) -> None:
        page = got(f"{address}/").decode()
        config = got(f"{address}/config").decode()
        own = address.removeprefix("http://")
        for text in (page, config, got(f"{address}/theme.css").decode()):
            hosts = set(re.findall(r"https?:\\?/\\?/([\w.:-]+)", text)) - {"www.w3.org"}
            assert hosts <= {own}
            assert str(street_run.parent) not in text
            assert "/tmp/" not in text
            assert "crossband-uploads" not in text
        assert "analytics_enabled" not in config or not json.loads(config)["analytics_enabled"]

    def test_what_is_uploaded_goes_by_no_place(
        self, address: str, street_pairs: dict[str, list[Path]]
    ) -> None:
        told = example("post")(f"{address}/gradio_api/upload", {"files": street_pairs["visible"][0]})
        assert [place.startswith("/uploaded/") for place in told] == [True]
        with pytest.raises(urllib.error.HTTPError) as caught:
            got(f"{address}/gradio_api/file=/etc/passwd")
        assert caught.value.code in (403, 404)
        assert Image.open(io.BytesIO(got(f"{address}/gradio_api/file={told[0]}"))).size == SIZE[::-1]

    def test_fastapi_s_own_pages_are_not_there(self, address: str) -> None:
        """They would fetch scripts from elsewhere."""
        for path in ("docs", "redoc", "openapi.json"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                got(f"{address}/{path}")
            assert caught.value.code == 404
