"""Pairs that a text file lists."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import crossband as cb
from crossband.cli import main
from crossband.errors import CrossbandError, OptionError
from crossband.evaluation.pair_counts import read_pair_counts
from crossband.many.jobs import Done, PredictParts, begun
from crossband.many.parts import Cut
from crossband.pairs.opening import list_splits
from crossband.pairs.pair_list import read_list
from crossband.training.engine import train
from crossband.weights import make_card, save_run
from crossband.words import PAIR_COUNTS_NAME
from tiny_runs import tiny_options
from tiny_systems import TINY, build

SCENES = "scenes,train=3,val=0,test=3,size=32x48"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("list") / "pairs"
    assert main(["data", "export", SCENES, "--out", str(out)]) == 0
    return out


@pytest.fixture
def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "test" / "visible").iterdir())


@pytest.fixture
def root(tmp_path: Path, folder: Path) -> Path:
    """A folder to write lists in, with the images below it."""
    shutil.copytree(folder, tmp_path / "pairs")
    shutil.copy(folder / "classes.yaml", tmp_path)
    return tmp_path


def row(name: str, *parts: str, split: str = "test") -> str:
    return ",".join(f"pairs/{split}/{part}/{name}" for part in parts or ("visible", "infrared", "label"))


def write(root: Path, *rows: str) -> str:
    (root / "pairs.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return f"list:{root / 'pairs.csv'}"


def test_pairs_are_those_of_the_files_in_the_list_s_order(root: Path, folder: Path, names: list[str]) -> None:
    backwards = names[::-1]
    ours = cb.open_pairs(write(root, *(row(name) for name in backwards)), "all")
    theirs = cb.open_pairs(f"folder:{folder}", "test")
    assert (ours.bands, ours.classes, len(ours)) == (theirs.bands, theirs.classes, 3)
    for index, (one, other) in enumerate(zip(ours, [*theirs][::-1], strict=True)):
        assert one.name == ours.name(index) == f"pairs/test/visible/{other.name}"
        for part in ("visible", "infrared", "label"):
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part))


def test_a_header_names_columns_in_any_order_with_splits_names_and_conditions(
    root: Path, names: list[str]
) -> None:
    source = write(
        root,
        "\ufeffsplit,name,Infrared,visible,condition",
        f"a,one,{row(names[0], 'infrared', 'visible')},night",
        "",
        f"b,two,{row(names[1], 'infrared', 'visible')},",
        f"a,three,{root / row(names[2], 'infrared')},{row(names[2], 'visible')},day",
    )
    assert list_splits(source) == ["a", "b"]
    pairs = cb.open_pairs(source, "a")
    assert [(pairs.name(i), pairs.condition(i)) for i in range(2)] == [("one", "night"), ("three", "day")]
    assert pairs.classes is None
    assert pairs[1].infrared is not None
    with pytest.raises(OptionError, match="has no split 'all'; it has: a, b"):
        cb.open_pairs(source, "all")


def test_tabs_part_cells_too(root: Path, names: list[str]) -> None:
    pairs = cb.open_pairs(write(root, row(names[0], "visible", "infrared").replace(",", "\t")), "all")
    assert (pairs.bands, pairs[0].label) == (("visible", "infrared"), None)


def test_one_band_and_classes_of_the_labels(root: Path, names: list[str]) -> None:
    (root / "classes.yaml").unlink()
    pairs = cb.open_pairs(write(root, "infrared,label", *(row(n, "infrared", "label") for n in names)), "all")
    highest = max(int(pair.label[pair.label != 255].max()) for pair in pairs if pair.label is not None)
    assert pairs.bands == ("infrared",)
    assert pairs.classes is not None
    assert len(pairs.classes) == highest + 1


def test_an_empty_cell_is_an_image_that_is_not_there(root: Path, names: list[str]) -> None:
    source = write(root, row(names[0], "visible", "infrared"), row(names[1], "visible") + ",")
    with pytest.raises(CrossbandError, match="infrared lacks 1"):
        cb.open_pairs(source, "all")
    kept = cb.open_pairs(source, "all", missing="skip")
    assert len(kept) == 1
    assert [band for band, _ in kept.unpaired] == ["visible"]
    assert cb.open_pairs(source, "all", missing="use").bands == ("visible",)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("pairs/test/visible/none.png,pairs/test/infrared/none.png,", "none.png' is not there"),
        ("pairs/test/visible/{0}", "1 cells where there must be 3: visible, infrared, label"),
        ("a.png,b.png,c.png,d.png", "4 cells where there must be 3"),
        ("pairs/test/visible/{0},pairs/test/infrared/{0},", "is that of row 2 already"),
        ("classes.yaml,pairs/test/infrared/{1},", "is no image by its suffix"),
        (",,pairs/test/label/{1}", "neither a visible nor an infrared image"),
        ("pairs/test,pairs/test/infrared/{1},", "is no image by its suffix"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_in_one_line(
    root: Path, names: list[str], line: str, told: str
) -> None:
    source = write(root, "visible,infrared,label", row(names[0]), line.format(*names))
    with pytest.raises(CrossbandError) as caught:
        cb.open_pairs(source, "all")
    assert f"{root / 'pairs.csv'}, row 3: " in str(caught.value)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (("",), "no row in it"),
        (("visible,infrared",), "no row below its header"),
        (("visible,thermal", "a.png,b.png"), "'thermal' is none of them"),
        (("visible;infrared", "a.png;b.png"), "one cell; its cells are parted by semicolons"),
        (("a.png;b.png",), "one cell; its cells are parted by semicolons"),
        (("label,name", "a.png,b"), "must name visible, infrared or both"),
        (('"a.png', "b.png"), "cannot be read as CSV"),
        (("name,visible", "../../x,pairs/test/visible/{0}"), "leads out of its folder"),
        (("split,visible", "a/b,pairs/test/visible/{0}"), "must be one word"),
        (("split,visible", ",pairs/test/visible/{0}"), "no split"),
    ],
)
def test_what_is_no_list_is_told_in_one_line(
    root: Path, names: list[str], rows: tuple[str, ...], told: str
) -> None:
    with pytest.raises(CrossbandError) as caught:
        cb.open_pairs(write(root, *(line.format(*names) for line in rows)), "all")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_or_not_there(root: Path) -> None:
    (root / "pairs.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CrossbandError, match="cannot be read as CSV"):
        list_splits(f"list:{root / 'pairs.csv'}")
    with pytest.raises(OptionError, match="does not exist"):
        list_splits(f"list:{root / 'nowhere.csv'}")
    with pytest.raises(OptionError, match="list has no option 'ignore'"):
        list_splits(f"list:{root / 'pairs.csv'},ignore=none")


def test_the_check_names_every_row(root: Path, names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    source = write(root, row(names[0]), "a.png,b.png,", row(names[1]), "c.png")
    assert len(read_list(root / "pairs.csv").rows) == 2
    assert main(["data", "check", source]) == 1
    told = capsys.readouterr().out
    assert "row 2: " in told
    assert "row 4: " in told
    assert main(["data", "check", write(root, *map(row, names))]) == 0
    assert "List of pairs" in capsys.readouterr().out


@pytest.fixture
def run(root: Path, folder: Path) -> Path:
    classes = cb.open_pairs(f"folder:{folder}", "test").classes
    assert classes is not None
    system = build("deeplabv3plus", len(classes), **TINY, band="visible").eval()
    save_run(root / "run", system, make_card(system, classes, "full-range", {}))
    return root / "run"


def named(names: list[str]) -> list[str]:
    return ["visible,infrared,label,name", *(f"{row(name)},{name[:-4]}" for name in names)]


def test_commands_take_lists(root: Path, folder: Path, names: list[str], run: Path, tmp_path: Path) -> None:
    source = write(root, *named(names))
    for data, split, out in ((source, "all", "ours"), (f"folder:{folder}", "test", "theirs")):
        given = ["--data", data, "--split", split, "--device", "cpu"]
        assert main(["predict", str(run), *given, "--out", str(tmp_path / out)]) == 0
        assert main(["evaluate", str(run), *given, "--out", str(tmp_path / f"{out}-scores")]) == 0
    for name in names:
        ours, theirs = (tmp_path / out / "label" / name for out in ("ours", "theirs"))
        assert ours.read_bytes() == theirs.read_bytes()
    ours, theirs = (
        read_pair_counts(tmp_path / f"{out}-scores" / PAIR_COUNTS_NAME) for out in ("ours", "theirs")
    )
    np.testing.assert_array_equal(ours.matrices["visible"], theirs.matrices["visible"])


def test_workers_of_a_cluster_do_parts_of_a_list(
    root: Path, names: list[str], run: Path, tmp_path: Path
) -> None:
    cut = Cut("predict", str(run), None, write(root, *named(names)), "all", pairs=3, size=2)
    out = tmp_path / "parts"
    out.mkdir()
    load = {"device": "cpu", "bands": "visible"}
    do = begun(PredictParts(cut, out, Path.cwd(), load, batch_size=2))
    assert [do(index) for index in range(2)] == [Done(2), Done(1)]
    found = [sorted(path.name for path in (out / part / "label").iterdir()) for part in cut.names()]
    assert found == [names[:2], names[2:]]


def test_a_list_is_trained_on(root: Path, folder: Path, tmp_path: Path) -> None:
    rows = []
    for split, into in (("train", "train"), ("test", "val")):
        files = sorted(path.name for path in (folder / split / "visible").iterdir())
        rows += [f"{into},{into}-{number},{row(name, split=split)}" for number, name in enumerate(files)]
    source = write(root, "split,name,visible,infrared,label", *rows)
    recipe = {"epochs": 1, "batch_size": 2}
    out = train(tiny_options(tmp_path / "trained", "deeplabv3plus", data=source, recipe=recipe), quiet=True)
    assert cb.load(out, device="cpu").card.training["data"] == source
