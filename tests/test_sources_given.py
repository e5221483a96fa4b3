"""What predict and fuse are given: sources, patterns of names, pairs by time, and bands that come and go."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from command_line import refused
from crossband.cli import main
from crossband.errors import OptionError, PairError
from crossband.pairs.arrangement import arrangement_of
from crossband.pairs.base import Classes, Listed
from crossband.pairs.folder import FolderPairs, folder_splits
from crossband.pairs.given import given_images, given_source
from crossband.pairs.matching import find_images, match_by_time
from crossband.pairs.opening import list_splits, open_pairs
from crossband.pairs.time_stamps import nearest_pairs, parse_gap, time_of_name
from crossband.terminal import ProgressLines
from crossband.weights import make_card, save_run
from crossband.words import BANDS
from tiny_systems import csknet, tiny

MS = 1_000_000
SHAPES = {"colour": (24, 32, 3), "grey": (24, 32)}


def put(path: Path, kind: str, level: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(level).integers(0, 256, SHAPES[kind], np.uint8)
    Image.fromarray(image).save(path)
    return path


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Two recordings whose images have the same names; the second lacks an infrared image."""
    for recording in ("rec_01", "rec_02"):
        for number in range(3):
            put(tmp_path / "recs" / recording / "RGB" / f"{number}.png", "colour", number)
            if (recording, number) != ("rec_02", 1):
                put(tmp_path / "recs" / recording / "Thermal" / f"{number}.png", "grey", number)
    return tmp_path / "recs"


@pytest.fixture
def timed(tmp_path: Path) -> Path:
    """Six images of a camera of 10 Hz, and two of one of 5 Hz that come 7 ms later, in one folder."""
    for number in range(6):
        put(tmp_path / "t" / f"rgb_{1_700_000_000_000 + 100 * number}.png", "colour", number)
        if number < 2:
            put(tmp_path / "t" / f"ir_{1_700_000_000_007 + 200 * number}.tif", "grey", number)
    return tmp_path / "t"


class TestTimes:
    @pytest.mark.parametrize(
        ("name", "nanoseconds"),
        [
            ("1700000000.25", 1_700_000_000_250_000_000),
            ("frame_1700000000_000000007", 1_700_000_000_000_000_007),
            ("a/1700000000123", 1_700_000_000_123 * MS),
            ("1700000000123456", 1_700_000_000_123_456_000),
            ("1700000000123456789_left", 1_700_000_000_123_456_789),
            ("1700000000", 1_700_000_000_000 * MS),
            ("12.345", 12_345 * MS),
            ("20231114_221320", 1_700_000_000_000 * MS),
            ("2023-11-14T22-13-20.5", 1_700_000_000_500 * MS),
            ("20231114221320125", 1_700_000_000_125 * MS),
            ("DJI_20231114221320_0001_T", 1_700_000_000_000 * MS),
        ],
    )
    def test_of_names(self, name: str, nanoseconds: int) -> None:
        assert time_of_name(name) == nanoseconds

    @pytest.mark.parametrize("name", ["000123", "rgb", "20231399999999", "1.2.3"])
    def test_names_without_one(self, name: str) -> None:
        with pytest.raises(PairError, match="holds no time"):
            time_of_name(name)

    def test_gaps(self) -> None:
        assert [parse_gap(text) for text in ("20ms", "0.5s", "7 us", "9ns")] == [20 * MS, 500 * MS, 7000, 9]
        for text in ("20", "ms", "-1ms", "1h"):
            with pytest.raises(OptionError, match="no span of time"):
                parse_gap(text)

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.integers(0, 300), max_size=12),
        st.lists(st.integers(0, 300), max_size=12),
        st.integers(0, 40),
    )
    def test_what_is_paired_is_near_and_nothing_nearer_is_left(
        self, first: list[int], second: list[int], gap: int
    ) -> None:
        pairs = nearest_pairs(first, second, gap)
        assert len({one for one, _ in pairs}) == len({other for _, other in pairs}) == len(pairs)
        assert all(abs(first[one] - second[other]) <= gap for one, other in pairs)
        partner, back = dict(pairs), {other: one for one, other in pairs}
        for one, time in enumerate(first):
            for other, later in enumerate(second):
                if (apart := abs(time - later)) > gap:
                    continue
                # Two that are left for others have nearer ones, at least one of them.
                ours = abs(time - second[partner[one]]) if one in partner else gap + 1
                theirs = abs(first[back[other]] - later) if other in back else gap + 1
                assert min(ours, theirs) <= apart


class TestFolders:
    def test_names_that_are_nearly_those_of_bands_are_told(self, recordings: Path) -> None:
        with pytest.raises(PairError, match=r"write folder:.*,visible=RGB,infrared=Thermal$"):
            folder_splits(recordings)
        (recordings / "rec_01" / "RGB").rename(recordings / "rec_01" / "VISIBLE")
        with pytest.raises(PairError, match="visible=VISIBLE,infrared=Thermal"):
            list_splits(f"folder:{recordings}")

    def test_other_names_and_labels(self, recordings: Path) -> None:
        put(recordings / "rec_01" / "masks" / "0.png", "grey")
        source = f"folder:{recordings},visible=RGB,infrared=Thermal"
        assert list_splits(source) == ["rec_01", "rec_02"]
        assert open_pairs(source, "rec_01").bands == ("visible", "infrared")
        with pytest.raises(PairError, match=r"infrared lacks 1 \(1\)"):
            open_pairs(source, "rec_02")
        pairs = open_pairs(source, "rec_02", missing="use", labels=False)
        assert (len(pairs), pairs.bands) == (3, ("visible",))
        assert pairs[1].infrared is None
        with pytest.raises(PairError, match=r"label lacks 2 \(1, 2\)"):
            open_pairs(f"{source},label=masks", "rec_01")

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ("visible=RBG,infrared=Thermal", "no folder there is called 'RBG', as visible=RBG names it"),
            ("visible=RGB,infrared=Thermal,label=masks", "no folder there is called 'masks'"),
            ("visible=RGB/{id}.png,infrared=Thermal/{id}.tif", "no image there fits 'Thermal/{id}.tif'"),
        ],
    )
    def test_a_name_that_nothing_has_is_told(self, options: str, said: str, recordings: Path) -> None:
        """A band with a typing error in its name is not one that is absent."""
        with pytest.raises(PairError) as error:
            open_pairs(f"folder:{recordings},{options}", "rec_01")
        assert said in str(error.value)

    def test_one_split_may_lack_what_was_named(self, recordings: Path) -> None:
        shutil.rmtree(recordings / "rec_02" / "Thermal")
        source = f"folder:{recordings},visible=RGB,infrared=Thermal"
        assert [open_pairs(source, name).bands for name in ("rec_01", "rec_02")] == [BANDS, ("visible",)]

    def test_a_pattern_says_what_pairs_share(self, tmp_path: Path) -> None:
        for number in (1, 2):
            put(tmp_path / "f" / f"rgb_{number}.png", "colour")
            put(tmp_path / "f" / "deep" / f"ir_{number}_x.TIF", "grey")
        put(tmp_path / "f" / "other.png", "colour")
        assert list(find_images(tmp_path / "f" / "deep" / "ir_{id}_x")) == ["1", "2"]
        pairs = FolderPairs(
            tmp_path / "f",
            "all",
            arrangement=arrangement_of({"visible": "rgb_{id}.png", "infrared": "deep/ir_{id}_x.tif"}),
        )
        assert [pair.name for pair in pairs] == ["1", "2"]
        with pytest.raises(PairError, match="no image fits it"):
            find_images(tmp_path / "f" / "thermal_{id}.png")

    def test_by_time(self, timed: Path) -> None:
        source = f"folder:{timed},visible=rgb_{{id}}.png,infrared=ir_{{id}}.tif,pair=time,max_gap=20ms"
        pairs = open_pairs(source, "all")
        assert [pairs.name(index) for index in range(len(pairs))] == ["1700000000000", "1700000000200"]
        assert pairs.offsets is not None
        assert pairs.offsets.gaps == (7 * MS, 7 * MS)
        assert "+7.0 ms" in str(pairs.offsets)
        assert "4 of 6 visible (66.7 %), 0 of 2 infrared (0.0 %)" in str(pairs.offsets)
        assert [band for band, _ in pairs.unpaired] == ["visible"] * 4
        with pytest.raises(PairError, match="no two images are within 5 ms"):
            open_pairs(source.replace("20ms", "5ms"), "all")
        with pytest.raises(PairError, match="4 of 6 visible"):
            open_pairs(source, "all", missing="error")
        assert len(open_pairs(source, "all", missing="use")) == 6

    def test_times_that_several_names_tell_make_no_pairs(self, tmp_path: Path) -> None:
        """The second at which a recording began, and a number: nearest in time is then any of them."""
        for number in range(4):
            put(tmp_path / "visible" / f"20240131_120000_{number:04}.png", "colour")
            if number % 2:
                put(tmp_path / "infrared" / f"20240131_120000_{number:04}.png", "grey")
        with pytest.raises(PairError, match=r"2 visible names tell the time of another one too \(.*_0000,"):
            open_pairs(f"folder:{tmp_path},pair=time,max_gap=20ms", "all")
        for extra in (tmp_path / "visible").glob("*_000[0-2].png"):
            extra.unlink()
        with pytest.raises(PairError, match="1 infrared names tell"):
            open_pairs(f"folder:{tmp_path},pair=time,max_gap=20ms", "all")

    def test_images_alone_keep_their_names_apart(self, tmp_path: Path) -> None:
        put(tmp_path / "v" / "10.0.png", "colour")
        put(tmp_path / "v" / "20.0.png", "colour")
        put(tmp_path / "i" / "20.001.png", "grey")
        put(tmp_path / "i" / "10.5.png", "grey")
        matching = match_by_time(tmp_path / "v", tmp_path / "i", 5 * MS, missing="use")
        assert [(file.name, bool(file.visible), bool(file.infrared)) for file in matching.files] == [
            ("10.0", True, False),
            ("10.5", False, True),
            ("20.0", True, True),
        ]

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ({"visible": "../elsewhere"}, "name a folder within"),
            ({"pair": "time"}, "are given together"),
            ({"max_gap": "3ms"}, "are given together"),
            ({"pair": "order"}, "write one of name, time"),
        ],
    )
    def test_options_that_make_no_sense(self, options: dict[str, str], why: str) -> None:
        with pytest.raises(OptionError, match=why):
            arrangement_of(options)


class TestGiven:
    def test_recordings_stand_in_the_names(self, recordings: Path) -> None:
        given = given_source(f"folder:{recordings},visible=RGB,infrared=Thermal")
        assert [pair.name for pair in given.pairs] == [f"rec_0{r}/{n}" for r in (1, 2) for n in range(3)]
        assert given.source is not None
        assert given.source.source.endswith("infrared=Thermal")
        assert given.source.splits == ("rec_01", "rec_02")
        one = given_source(f"folder:{recordings},visible=RGB,infrared=Thermal", ["rec_02"], missing="skip")
        assert [pair.name for pair in one.pairs] == ["0", "2"]
        assert one.unpaired == [("visible", str(recordings / "rec_02" / "RGB" / "1.png"))]

    def test_pairs_without_files(self) -> None:
        given = given_source("scenes,train=1,val=1,test=1,size=64x64")
        assert [pair.name.partition("/")[0] for pair in given.pairs] == ["train", "val", "test"]
        first = given.pairs[0]
        assert isinstance(first, Listed)
        assert first.has("infrared")
        assert (first.visible, first.infrared) == (None, None)
        assert first.read().label is None

    def test_time_needs_two_bands(self, timed: Path) -> None:
        with pytest.raises(OptionError, match="two bands"):
            given_images(timed, None, max_gap=1)


def test_without_a_terminal_progress_is_a_line_every_ten_seconds() -> None:
    lines: list[str] = []
    now = [100.0]
    progress = ProgressLines("fusing", lambda: now[0], lines.append)
    for done in range(20, 61):
        now[0] = 100.0 + (done - 20)
        progress(done, 4000)
    assert lines == [
        "fusing: 30 of 4000, 1 a second, 1:06:10 left",
        "fusing: 40 of 4000, 1 a second, 1:06:00 left",
        "fusing: 50 of 4000, 1 a second, 1:05:50 left",
        "fusing: 60 of 4000, 1 a second, 1:05:40 left",
    ]


class TestCommands:
    def test_predict_takes_a_source_with_bands_that_differ(
        self, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        system = csknet()
        classes = Classes(tuple("abcde"), ((0, 0, 0),) * 5)
        save_run(tmp_path / "run", system, make_card(system, classes, "full-range", {}))
        out = tmp_path / "out"
        command = ["predict", str(tmp_path / "run"), "--out", str(out), "--device", "cpu"]
        command += ["--data", f"folder:{recordings},visible=RGB,infrared=Thermal"]
        assert main(command) == 0
        printed = capsys.readouterr()
        assert "bands: both 5 (designed), visible 1 (fallback)" in printed.out
        assert (out / "label" / "rec_01" / "1.png").is_file()
        assert (out / "label" / "rec_02" / "1.png").is_file()
        declared = json.loads((out / "classes.json").read_text())
        assert [entry["name"] for entry in declared["classes"]] == list("abcde")
        assert declared["ignored"] == 255
        with Image.open(out / "legend.png") as picture:
            assert picture.height > 5 * 20
        made = json.loads((out / "manifest.json").read_text())["made_by"]
        assert made["source"] == f"folder:{recordings},visible=RGB,infrared=Thermal"
        assert made["splits"] == ["rec_01", "rec_02"]
        assert (made["bands"], made["visible"]) == ("both", None)
        # Of one recording names are shorter: these are other results.
        assert main([*command, "--split", "rec_01"]) == 2
        assert "source" in capsys.readouterr().err
        assert main([*command, "--resume"]) == 0
        assert "there already: 6" in capsys.readouterr().out
        assert main([*command, "--missing", "error", "--overwrite"]) == 2

    def test_fuse_pairs_by_time_and_lists_what_stays_single(
        self, timed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bands = ["--visible", str(timed / "rgb_{id}.png"), "--infrared", str(timed / "ir_{id}.tif")]
        command = ["fuse", "average", *bands, "--pair", "time", "--max_gap", "20ms"]
        assert main([*command, "--out", str(tmp_path / "out")]) == 0
        assert "2 pairs by time; infrared comes +7.0 ms after visible (median)" in capsys.readouterr().out
        with open(tmp_path / "out" / "unpaired.csv", newline="") as file:
            assert len(list(csv.DictReader(file))) == 4
        assert main([*command, "--missing", "use", "--out", str(tmp_path / "all")]) == 0
        assert "bands: both 2 (designed), visible 4 (fallback)" in capsys.readouterr().out

    def test_fuse_takes_scenes(self, tmp_path: Path) -> None:
        command = ["fuse", "average", "--data", "scenes,test=2,size=64x64", "--split", "test"]
        assert main([*command, "--out", str(tmp_path / "out")]) == 0
        assert len(list((tmp_path / "out").glob("*.png"))) == 2

    def test_refused(self, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = ["--out", str(tmp_path / "out")]
        for more, why in (
            ([], "or a source of pairs as --data"),
            (["--data", "scenes", "--visible", "x"], "leave out --visible and --infrared"),
            (["--visible", "x", "--split", "test"], "--split test means a part of --data"),
            (["--data", f"folder:{recordings}"], "visible=RGB,infrared=Thermal"),
            (["--data", "scenes", "--split", "nowhere"], "no split 'nowhere'"),
            (["--visible", "x", "--pair", "time"], "--max_gap"),
        ):
            assert why in refused(["fuse", "average", *more, *out], capsys)
        inside = str(recordings / "rec_01" / "RGB" / "out")
        source = ["--data", f"folder:{recordings},visible=RGB,infrared=Thermal"]
        assert "would be taken for images" in refused(["fuse", "average", *source, "--out", inside], capsys)


@pytest.mark.parametrize("only", ["a system of one band", "one band that is asked for"])
def test_one_band_of_a_source_of_both(only: str, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs" / "test"
    for number in range(2):
        put(pairs / "visible" / f"{number}.png", "colour", number)
        infrared = put(pairs / "infrared" / f"{number}.png", "grey", number)
    plain = only == "a system of one band"
    system = tiny("deeplabv3plus", band="infrared") if plain else csknet()
    classes = Classes(tuple("abcde"), ((0, 0, 0),) * 5)
    save_run(tmp_path / "run", system, make_card(system, classes, "full-range", {}))
    asked = [] if plain else ["--bands", "infrared"]
    predict = ["predict", str(tmp_path / "run"), "--device", "cpu", "--out"]
    source = ["--data", f"folder:{tmp_path / 'pairs'}"]
    assert main([*predict, str(tmp_path / "of-source"), *source, *asked]) == 0
    assert main([*predict, str(tmp_path / "alone"), "--infrared", str(infrared.parent)]) == 0
    for number in range(2):
        name = f"label/{number}.png"
        assert (tmp_path / "of-source" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    manifest = json.loads((tmp_path / "of-source" / "manifest.json").read_text())
    assert manifest["made_by"]["bands"] == "infrared"


def test_a_band_that_was_asked_for_and_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = Classes(tuple("abcde"), ((0, 0, 0),) * 5)
    save_run(tmp_path / "run", csknet(), make_card(csknet(), classes, "full-range", {}))
    infrared = put(tmp_path / "infrared" / "a.png", "grey")
    predict = ["predict", str(tmp_path / "run"), "--infrared", str(infrared), "--bands", "both"]
    told = refused([*predict, "--device", "cpu", "--out", str(tmp_path / "out")], capsys)
    assert told == "a has infrared alone, and both was asked for"
