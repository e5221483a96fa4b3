"""Names from files: refused where they are made, and again where they would be written."""

import errno
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossband.cli import main
from crossband.errors import PairError
from crossband.pairs import export
from crossband.pairs.base import Pair, Pairs
from crossband.pairs.check import check_source
from crossband.pairs.export import export_folder
from crossband.pairs.folder import FolderPairs, read_classes
from crossband.pairs.names import checked_name, place_of
from crossband.pairs.opening import open_pairs
from fake_trees import mfnet_original, msrs, mvseg
from stored_images import noise

BAD = [
    "", ".", "..", "../a", "a/../b", "a/..", "/a", "a//b", "a/", "./a",
    "a\\b", "a\nb", "\x1b[31m", "é" * 130, "a/" * 600,
]  # fmt: skip
GOOD = ["00001D", "a b", "video/00237", "a..b", "...", "é", "[/x]", "=1", "a" * 240]


@pytest.mark.parametrize("name", BAD)
def test_bad_names(tmp_path: Path, name: str) -> None:
    for refuse in (checked_name, lambda text: place_of(tmp_path, text, ".png")):
        with pytest.raises(PairError) as caught:
            refuse(name)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", GOOD)
def test_good_names(tmp_path: Path, name: str) -> None:
    assert checked_name(name) == name
    assert place_of(tmp_path, name, ".png") == tmp_path / f"{name}.png"


@pytest.mark.parametrize("line", ["..", "../..", "a/../../b", "/etc", "video\x1b[2J"])
def test_a_list_that_leads_out_of_the_tree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out" / "pairs"
    mvseg(tree)
    listed = tree / "train.txt"
    listed.write_text(f"{listed.read_text()}{line}\n")
    with pytest.raises(PairError, match=r"train\.txt, line \d+: the name '"):
        open_pairs(f"mvseg:{tree}", "train")
    assert main(["data", "export", f"mvseg:{tree}", "--out", str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tree"]
    assert main(["data", "check", f"mvseg:{tree}"]) == 1
    assert re.search(r"train: 1 entry cannot be taken: .*train\.txt, line \d+", capsys.readouterr().out)


def test_a_list_of_pairs_keeps_to_names(tmp_path: Path) -> None:
    """A path in a list of names stands for its last part; one that has none is refused."""
    mfnet_original(tmp_path)
    listed = tmp_path / "train.txt"
    listed.write_text(f"{listed.read_text()}..\n")
    with pytest.raises(PairError, match=r"train\.txt, line 4: the name '\.\.' leads out"):
        open_pairs(f"mfnet:{tmp_path}", "train")


def test_a_check_gathers_bad_names(tmp_path: Path) -> None:
    """Neither they nor a list that is no text end it: the other pairs and splits are looked at as well."""
    mfnet_original(tmp_path)
    sound = {split.name: split.pairs for split in check_source(f"mfnet:{tmp_path}").splits}
    listed = tmp_path / "train.txt"
    listed.write_text(f"..\n{listed.read_text()}a\x1b[2J\n")
    (tmp_path / "val.txt").write_bytes(b"\xff\xfe\x00")
    report = check_source(f"mfnet:{tmp_path}")
    told = [problem.message for problem in report.problems if "cannot be taken" in problem.message]
    assert len(told) == 2
    assert "train: 2 entries cannot be taken" in told[0]
    assert all(f"train.txt, line {number}: the name " in told[0] for number in (1, 5))
    assert "val: 1 entry cannot be taken" in told[1]
    assert not report.ok
    assert {split.name: split.pairs for split in report.splits} == {**sound, "val": 0}


def test_a_list_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    mfnet_original(tmp_path)
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(PairError, match=r"train\.txt: Permission denied; change its permissions"):
        open_pairs(f"mfnet:{tmp_path}", "train")


def test_a_check_gathers_bad_names_of_files(tmp_path: Path) -> None:
    msrs(tmp_path)
    path = next((tmp_path / "train" / "vi").iterdir())
    path.rename(path.with_stem("a\nb"))
    report = check_source(f"msrs:{tmp_path}")
    assert any(r"vi: the name 'a\nb'" in problem.message for problem in report.problems)
    with pytest.raises(PairError, match=r"vi: the name 'a\\nb'"):
        open_pairs(f"msrs:{tmp_path}", "train")


def test_files_with_names_that_do_not_print(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "visible"
    folder.mkdir(parents=True)
    Image.fromarray(noise(4, 4)).save(folder / "a\nb.png")
    with pytest.raises(PairError, match=r"visible: the name 'a\\nb'"):
        FolderPairs(tmp_path, "train")


def test_class_names_print_in_one_line(tmp_path: Path) -> None:
    for text in ('names: [a, "b\\nc"]', 'names: [a, "\\e[31m"]', f"names: [a, {'b' * 101}]"):
        (tmp_path / "classes.yaml").write_text(text)
        with pytest.raises(PairError, match=r"classes\.yaml: the name .* must print in one line") as caught:
            read_classes(tmp_path / "classes.yaml")
        assert str(caught.value).isprintable()


class OnePair(Pairs):
    """A pair of any name, as a source that checks none would give it."""

    source, split, classes, bands = "mine", "train", None, ("visible",)

    def __init__(self, name: str):
        self.bad = name

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Pair:
        return Pair(self.bad, np.zeros((4, 4, 3), np.float32), None)

    def name(self, index: int) -> str:
        return self.bad


@pytest.mark.parametrize("name", ["../../../up", "/up", "a/../../../../up"])
def test_export_checks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(export, "open_splits", lambda source, splits, **options: [OnePair(name)])
    monkeypatch.setattr(export, "main_splits", lambda source: ["train"])
    with pytest.raises(PairError, match="leads out of its folder"):
        export_folder("mine", tmp_path / "out" / "pairs")
    assert not list(tmp_path.rglob("*.png"))
    assert not list(tmp_path.rglob("*.tmp"))


def test_conditions_of_a_name_that_looks_like_a_formula(tmp_path: Path) -> None:
    for band in ("visible", "infrared"):
        (tmp_path / "in" / "train" / band).mkdir(parents=True)
        for name in ("=1+1", "b"):
            Image.fromarray(noise(4, 4)).save(tmp_path / "in" / "train" / band / f"{name}.png")
    (tmp_path / "in" / "train" / "conditions.csv").write_text("name,condition\n=1+1,fog\nb,-\n")
    export_folder(f"folder:{tmp_path / 'in'}", tmp_path / "out")
    written = (tmp_path / "out" / "train" / "conditions.csv").read_text()
    assert "\n'=1+1,fog\n" in written
    pairs = FolderPairs(tmp_path / "out", "train")
    assert [(pairs.name(i), pairs.condition(i)) for i in range(2)] == [("=1+1", "fog"), ("b", "-")]
