"""A page to look through pairs, and a file for Rerun."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import crossband as cb
import fake_trees
from command_line import refused
from crossband.cli import main
from crossband.pairs.writing import png_bytes, write_image, write_label
from crossband.results import open_results
from fake_rerun import fake_rerun
from simulated_cameras import SIZE, scene
from test_shards import write_shard

NASTY = "a </script><script>alert(1)</script>".replace("/", "∕")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pairs"
    rng = np.random.default_rng(0)
    for name in ["one", "two", NASTY]:
        write_image(root / "visible" / f"{name}.png", rng.integers(0, 256, (24, 32, 3), np.uint8))
        write_image(root / "infrared" / f"{name}.png", rng.integers(0, 256, (24, 32), np.uint8))
        label = np.zeros((24, 32), np.uint8)
        label[:6], label[6:12] = 1, 255
        write_label(root / "label" / f"{name}.png", label, ((0, 0, 0), (200, 0, 0)))
    (root / "classes.yaml").write_text("names: [background, 'x<b>']\n", encoding="utf-8")
    return root


def data_of(page: Path) -> list[dict[str, str]]:
    found = re.search(r'id="pairs">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    loaded: list[dict[str, str]] = json.loads(found[1])
    return loaded


def test_a_page_holds_bands_labels_and_names(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "view.html"
    assert main(["view", f"folder:{folder}", "--out", str(page), "--max_side", "16"]) == 0
    shown = data_of(page)
    assert {one["name"] for one in shown} == {"one", "two", NASTY}
    for one in shown:
        for kind in ("visible", "infrared", "label"):
            image = Image.open(io.BytesIO(base64.b64decode(one[kind].partition(",")[2])))
            assert image.size == (16, 12)
        alpha = np.asarray(image)[..., 3]
        # The second quarter is ignored, and shows the image.
        assert (alpha[3:6] == 0).all()
        assert (alpha[:3] == 255).all()
        assert "background 50.0 %, x<b> 25.0 %" in one["told"]
    text = page.read_text(encoding="utf-8")
    assert "x<b>" not in text
    assert "<script>alert" not in text
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert "http" not in text.replace("http-equiv", "")


def test_a_page_of_results_shows_what_was_fused_and_says_how_many(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = tmp_path / "fused", tmp_path / "view.html"
    bands = ["--visible", str(folder / "visible"), "--infrared", str(folder / "infrared")]
    assert main(["fuse", "average", *bands, "--out", str(out)]) == 0
    assert main(["view", str(out), "--out", str(page), "--count", "2"]) == 0
    assert "2 of 3 pairs" in capsys.readouterr().out
    shown = data_of(page)
    assert len(shown) == 2
    assert all("fused" in one and "label" not in one for one in shown)
    assert "2 of 3 pairs of" in page.read_text(encoding="utf-8")
    for option in (["--split", "test"], ["--infrared_scaling", "minmax"]):
        assert main(["view", str(out), "--out", str(page), *option]) == 2
        assert f"leave out {option[0]}" in capsys.readouterr().err


def test_results_of_a_source_with_several_splits_are_opened_again(tmp_path: Path) -> None:
    source, out, page = "scenes,train=2,val=1,test=1,size=32x48", tmp_path / "fused", tmp_path / "view.html"
    assert main(["fuse", "average", "--data", source, "--out", str(out)]) == 0
    assert main(["view", str(out), "--out", str(page)]) == 0
    shown = data_of(page)
    assert {one["name"].partition("/")[0] for one in shown} == {"train", "val", "test"}
    assert all({"visible", "infrared", "fused"} <= set(one) for one in shown)


def test_results_that_do_not_say_of_which_splits_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = "scenes,train=1,val=1,test=1,size=32x48", tmp_path / "fused"
    assert main(["fuse", "average", "--data", source, "--out", str(out)]) == 0
    manifest = out / "manifest.json"
    document = json.loads(manifest.read_text())
    del document["made_by"]["splits"]
    manifest.write_text(json.dumps(document))
    capsys.readouterr()
    assert "which splits" in refused(["view", str(out), "--out", str(tmp_path / "view.html")], capsys)


@pytest.mark.parametrize("split", [None, "night 2", "a+b"])
def test_recordings_of_any_name_are_opened_again(split: str | None, tmp_path: Path) -> None:
    recordings = ["day 1", "night 2", "a+b"]
    for recording in recordings:
        write_image(tmp_path / "my drive" / recording / "infrared" / "x.png", scene("infrared", 0))
    out, page = tmp_path / "fused", tmp_path / "view.html"
    arguments = ["fuse", "guided", "--data", f"folder:{tmp_path / 'my drive'}", "--out", str(out)]
    assert main([*arguments, *([] if split is None else ["--split", split])]) == 0
    assert main(["view", str(out), "--out", str(page)]) == 0
    names = {one["name"] for one in data_of(page)}
    assert names == ({f"{recording}/x" for recording in recordings} if split is None else {"x"})


def test_results_of_frames_are_opened_again_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    for band in ("visible", "infrared"):
        frames = np.stack([scene("infrared", number) for number in range(2)])
        tifffile.imwrite(f"{band}.tif", frames, photometric="minisblack")
    source = "frames:infrared.tif,visible=visible.tif"
    assert main(["fuse", "average", "--data", source, "--out", "fused"]) == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["view", "../fused", "--out", "view.html"]) == 0


def test_results_of_joined_splits_are_opened_again(tmp_path: Path) -> None:
    fake_trees.mfnet_original(tmp_path / "tree")
    source, out, page = f"mfnet:{tmp_path / 'tree'}", tmp_path / "fused", tmp_path / "view.html"
    assert main(["fuse", "average", "--data", source, "--split", "train+val", "--out", str(out)]) == 0
    assert main(["view", str(out), "--out", str(page)]) == 0
    pairs = cb.open_pairs(source, "train+val")
    assert {one["name"] for one in data_of(page)} == {pairs.name(index) for index in range(len(pairs))}


@pytest.mark.parametrize("missing", ["use", "skip"])
def test_results_of_pairs_by_time_are_opened_again(missing: str, tmp_path: Path) -> None:
    """With images alone, which a source of pairs by time leaves out unless it is asked."""
    for band, moments in (("visible", (10, 20, 30)), ("infrared", (10, 30, 50))):
        for moment in moments:
            write_image(tmp_path / "pairs" / band / f"{moment}.5.png", scene("infrared", moment))
    (tmp_path / "pairs" / "conditions.csv").write_text("name,condition\n10.5,dusk\n30.5,night\n")
    source, out, page = f"folder:{tmp_path / 'pairs'},pair=time,max_gap=1s", tmp_path / "out", tmp_path / "p"
    assert main(["fuse", "average", "--data", source, "--missing", missing, "--out", str(out)]) == 0
    assert main(["view", str(out), "--out", str(page)]) == 0
    alone = {"20.5", "50.5"} if missing == "use" else set()
    assert {one["name"] for one in data_of(page)} == {"10.5", "30.5"} | alone
    results = open_results(out)
    conditions = {results.name(index): results.condition(index) for index in range(len(results))}
    assert conditions == {"10.5": "dusk", "30.5": "night"} | dict.fromkeys(alone)


def test_results_of_shards_without_a_pair_that_lacks_a_band_are_opened_again(tmp_path: Path) -> None:
    image = png_bytes(scene("infrared", 0))
    names = ["1.visible.png", "1.infrared.png", "2.visible.png"]
    shard = write_shard(tmp_path / "s.tar", dict.fromkeys(names, image))
    out, page = tmp_path / "fused", tmp_path / "view.html"
    arguments = ["fuse", "average", "--data", f"shards:{shard}", "--missing", "skip", "--out", str(out)]
    assert main(arguments) == 0
    assert main(["view", str(out), "--out", str(page)]) == 0
    assert [one["name"] for one in data_of(page)] == ["1"]


def test_results_know_their_rig(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rig, out = tmp_path / "rig.json", tmp_path / "out"
    points = "".join(f"{x},{y},{x},{y}\n" for x in (1, 15, 30) for y in (1, 12, 22))
    (tmp_path / "points.csv").write_text(points)
    bands = ["--visible", str(folder / "visible"), "--infrared", str(folder / "infrared")]
    assert main(["align", *bands, "--points", str(tmp_path / "points.csv"), "--out", str(rig)]) == 0
    assert main(["fuse", "average", *bands, "--rig", str(rig), "--out", str(out)]) == 0
    page = ["--out", str(tmp_path / "view.html")]
    assert main(["view", str(out), "--rig", str(rig), *page]) == 0
    capsys.readouterr()
    assert "give that one as --rig" in refused(["view", str(out), *page], capsys)
    given = f"folder:{folder},rig={rig}"
    assert main(["fuse", "average", "--data", given, "--out", str(tmp_path / "other")]) == 0
    assert main(["view", str(tmp_path / "other"), *page]) == 0
    capsys.readouterr()
    told = refused(["view", str(tmp_path / "other"), "--rig", str(rig), *page], capsys)
    assert "leave out --rig" in told


@pytest.mark.parametrize("option", [["--out", "page.html"], ["--count", "2"], ["--max_side", "64"]])
def test_a_file_for_rerun_takes_no_option_of_a_page(
    folder: Path, tmp_path: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(["view", f"folder:{folder}", "--rerun", str(tmp_path / "out.rrd"), *option], capsys)
    assert f"{option[0]} is of a page" in told


def test_rerun_that_is_not_installed_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    told = refused(["view", f"folder:{folder}", "--rerun", str(tmp_path / "out.rrd")], capsys)
    assert "crossband[rerun]" in told
    assert not list(tmp_path.glob("*.rrd"))


@pytest.mark.skipif(importlib.util.find_spec("rerun") is None, reason="rerun-sdk is not installed")
def test_a_file_for_rerun_holds_the_entities(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.rrd"
    assert main(["view", f"folder:{folder}", "--rerun", str(path)]) == 0
    content = path.read_bytes()
    assert content.startswith(b"RRF")
    for entity in (b"visible", b"infrared", b"label"):
        assert entity in content


def test_a_file_for_rerun_holds_which_bands_were_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[tuple[float, str, Any]] = []
    monkeypatch.setitem(sys.modules, "rerun", fake_rerun(log))
    out = tmp_path / "fused"
    write_image(folder / "visible" / "one.png", np.zeros((*SIZE, 3), np.uint8))
    write_image(folder / "infrared" / "one.png", scene("visible", 0)[..., 0])
    (folder / "infrared" / "two.png").unlink()
    bands = ["--visible", str(folder / "visible"), "--infrared", str(folder / "infrared")]
    assert main(["fuse", "average", *bands, "--monitor", "--out", str(out)]) == 0
    assert main(["view", str(out), "--rerun", str(tmp_path / "out.rrd")]) == 0
    told = [what.text for _, name, what in log if name in ("name", "band_state")]
    states = dict(zip(told[1::2], told[::2], strict=True))
    assert states["one"] == "visible off: black, infrared on"
    assert states["two"] == "visible on, infrared off: not given"
    assert states[NASTY] == "visible on, infrared on"
    on = {name: [what.given for _, other, what in log if other == name] for name in LINES}
    assert on["band_state/visible"] == [(1.0,), (0.0,), (1.0,)]
    assert on["band_state/infrared"] == [(1.0,), (1.0,), (0.0,)]


LINES = ("band_state/visible", "band_state/infrared")
