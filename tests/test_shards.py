"""Pairs in tar files, as WebDataset writes them."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import crossband as cb
from command_line import refused
from crossband.cli import main
from crossband.errors import CrossbandError
from crossband.evaluation.pair_counts import joined, read_pair_counts
from crossband.many.cluster import Launcher
from crossband.many.jobs import Done, PredictParts, ScoreParts, begun
from crossband.many.parts import Cut
from crossband.many.working import do_parts
from crossband.pairs.base import Listed
from crossband.pairs.given import given_source
from crossband.pairs.opening import list_splits
from crossband.pairs.writing import png_bytes
from crossband.weights import make_card, save_run
from crossband.words import PAIR_COUNTS_NAME
from tiny_systems import TINY, build

SCENES = "scenes,train=1,val=0,test=5,size=32x48"


def write_shard(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "pairs"
    assert main(["data", "export", SCENES, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def images(folder: Path) -> dict[str, dict[str, bytes]]:
    """The files of each pair of the split test, by what they are, in the order of the names."""
    parts = ("visible", "infrared", "label")
    names = sorted(path.stem for path in (folder / "test" / "visible").iterdir())
    return {
        name: {part: (folder / "test" / part / f"{name}.png").read_bytes() for part in parts}
        for name in names
    }


@pytest.fixture
def shards(tmp_path: Path, folder: Path, images: dict[str, dict[str, bytes]]) -> Path:
    """Two shards of three and two pairs, with other members among them."""
    root = tmp_path / "shards"
    names = [*images]
    for number, chosen in enumerate((names[:3], names[3:])):
        members = {f"{name}.{part}.png": images[name][part] for name in chosen for part in images[name]}
        others = {f"{chosen[0]}.json": b"{}", "README": b"read me", f"{chosen[0]}.depth.png": b"no image"}
        write_shard(root / f"drive-{number:06d}.tar", {**others, **members})
    shutil.copy(folder / "classes.yaml", root)
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    classes = cb.open_pairs(SCENES, "test").classes
    assert classes is not None
    system = build("deeplabv3plus", len(classes), **TINY, band="visible").eval()
    save_run(out, system, make_card(system, classes, "full-range", {}))
    return out


def refusal(root: Path, **options: object) -> str:
    with pytest.raises(CrossbandError) as caught:
        cb.open_pairs(f"shards:{root}", "all", **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_pairs_are_those_of_the_files(shards: Path, folder: Path) -> None:
    ours, theirs = cb.open_pairs(f"shards:{shards}", "all"), cb.open_pairs(f"folder:{folder}", "test")
    assert len(ours) == len(theirs) == 5
    assert (ours.bands, ours.classes, ours.split) == (("visible", "infrared"), theirs.classes, "all")
    for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        assert one.name == other.name == ours.name(index)
        for part in ("visible", "infrared", "label"):
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part))


def test_one_shard_folders_of_splits_and_keys_with_folders(
    tmp_path: Path, images: dict[str, dict[str, bytes]]
) -> None:
    image = next(iter(images.values()))
    for split in ("train", "test"):
        write_shard(
            tmp_path / split / "a.tar",
            {f"./day.1/0001.{band}.PNG": image[band] for band in ("visible", "infrared")},
        )
    assert list_splits(f"shards:{tmp_path}") == ["test", "train"]
    assert cb.open_pairs(f"shards:{tmp_path}", "train").name(0) == "day.1/0001"
    one = cb.open_pairs(f"shards:{tmp_path / 'test' / 'a.tar'}", "all")
    assert one.classes is None
    assert one[0].label is None
    with pytest.raises(CrossbandError, match="has no split 'val'; it has: test, train"):
        cb.open_pairs(f"shards:{tmp_path}", "val")


def test_a_split_may_be_called_all(tmp_path: Path, images: dict[str, dict[str, bytes]]) -> None:
    first = next(iter(images.values()))
    for split in ("all", "night"):
        write_shard(tmp_path / split / "a.tar", {f"{split}.infrared.png": first["infrared"]})
    assert list_splits(f"shards:{tmp_path}") == ["all", "night"]
    opened = [cb.open_pairs(f"shards:{tmp_path}", split) for split in ("all", "night")]
    assert [pairs.name(0) for pairs in opened] == ["all", "night"]


def test_an_automatic_scaling_is_one_for_all_splits(tmp_path: Path) -> None:
    for split, low in (("day", 7000), ("night", 7600)):
        infrared = low + np.arange(108, dtype=np.uint16).reshape(9, 12)
        write_shard(tmp_path / split / "a.tar", {f"{split}.infrared.png": png_bytes(infrared)})
    given = given_source(f"shards:{tmp_path}", infrared_scaling="auto")
    day, night = (item.pairs.scaling for item in given.pairs if isinstance(item, Listed))
    assert day == night
    assert day.limits == pytest.approx((7000, 7707), abs=1)


def test_what_cannot_be_read_is_named(tmp_path: Path, images: dict[str, dict[str, bytes]]) -> None:
    image = next(iter(images.values()))
    both = {"a.visible.png": image["visible"], "a.infrared.png": image["infrared"]}
    assert "there is no shard" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "nowhere")
    for name in ("/../a", "../a", "x/../../a"):
        evil = write_shard(tmp_path / "evil.tar", {f"{name}.visible.png": image["visible"]})
        assert "leads out of its folder" in refusal(evil)
    assert "no member is named as an image" in refusal(write_shard(tmp_path / "none.tar", {"a.png": b"x"}))
    single = write_shard(tmp_path / "single.tar", {**both, "b.visible.png": image["visible"]})
    assert "pair 'b' has no infrared image" in refusal(single)
    assert refusal(single).endswith("remove the pair; of predict and fuse, --missing skip leaves it out")
    kept = cb.open_pairs(f"shards:{single}", "all", missing="skip")
    assert [kept.name(index) for index in range(len(kept))] == ["a"]
    assert [band for band, _ in kept.unpaired] == ["visible"]
    labelled = write_shard(tmp_path / "labelled.tar", {**both, "a.label.png": image["label"]})
    assert "classes.yaml, which names the classes" in refusal(labelled)
    assert cb.open_pairs(f"shards:{labelled}", "all", labels=False)[0].label is None
    cut = tmp_path / "cut.tar"
    cut.write_bytes(single.read_bytes()[: 512 + 100])
    assert "cut.tar" in refusal(cut)
    packed = tmp_path / "packed.tar"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(single, "x")
    assert "shards are plain tar" in refusal(packed)
    twice = tmp_path / "twice"
    for number in (0, 1):
        write_shard(twice / f"{number}.tar", both)
    assert "is there twice" in refusal(twice)
    with pytest.raises(CrossbandError, match="shards has no option 'pair'"):
        cb.open_pairs(f"shards:{single},pair=time", "all")


def test_an_image_that_cannot_be_used_names_its_shard_and_member(
    tmp_path: Path, images: dict[str, dict[str, bytes]]
) -> None:
    image = next(iter(images.values()))
    shard = write_shard(
        tmp_path / "a.tar", {"a.visible.png": image["visible"][:80], "a.infrared.png": image["infrared"]}
    )
    with pytest.raises(CrossbandError) as caught:
        cb.open_pairs(f"shards:{shard}", "all")[0]
    assert str(caught.value).startswith(f"{shard}, a.visible.png: ")


def test_a_shard_that_ends_before_its_pairs_do_is_refused(
    tmp_path: Path, images: dict[str, dict[str, bytes]]
) -> None:
    both = {f"{name}.{part}.png": images[name][part] for name in images for part in ("visible", "infrared")}
    whole = write_shard(tmp_path / "whole.tar", both)
    with tarfile.open(whole) as tar:
        third = tar.getmembers()[4].offset
    content = whole.read_bytes()
    damaged, cut, joined_up = (tmp_path / f"{name}.tar" for name in ("damaged", "cut", "joined"))
    damaged.write_bytes(content[:third] + b"\xff" + content[third + 1 :])
    joined_up.write_bytes(content + content)
    for shard in (damaged, joined_up):
        assert f"{shard}: a header in it is damaged, or another tar file follows its end" in refusal(shard)
    for end in (third, third + 100):
        cut.write_bytes(content[:end])
        assert f"{cut}: it breaks off without the mark that ends a tar file; copy it again" in refusal(cut)
    # GNU's tar and WebDataset fill up the last block; one mark is enough.
    cut.write_bytes(content.rstrip(b"\0") + bytes(1024))
    assert len(cb.open_pairs(f"shards:{cut}", "all")) == len(images)


def test_an_export_keeps_the_deepest_infrared_whatever_comes_first(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (8, 12)).astype(np.uint16)
    levels = {"a": (deep >> 8).astype(np.uint8), "b": deep}
    write_shard(
        tmp_path / "in.tar", {f"{name}.infrared.png": png_bytes(image) for name, image in levels.items()}
    )
    assert main(["data", "export", f"shards:{tmp_path / 'in.tar'}", "--out", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out" / "all" / "infrared" / "b.png") as image:
        np.testing.assert_array_equal(np.asarray(image), deep)


def test_a_link_is_no_image(tmp_path: Path, images: dict[str, dict[str, bytes]]) -> None:
    shard = tmp_path / "a.tar"
    with tarfile.open(shard, "w") as tar:
        entry = tarfile.TarInfo("a.visible.png")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(entry)
    assert "no member is named as an image" in refusal(shard)


def test_commands_take_shards(shards: Path, folder: Path, run: Path, tmp_path: Path) -> None:
    for source, split, out in ((f"shards:{shards}", "all", "ours"), (f"folder:{folder}", "test", "theirs")):
        given = ["--data", source, "--split", split, "--device", "cpu"]
        assert main(["predict", str(run), *given, "--out", str(tmp_path / out)]) == 0
        assert main(["evaluate", str(run), *given, "--out", str(tmp_path / f"{out}-scores")]) == 0
    labels = sorted((tmp_path / "ours" / "label").iterdir())
    assert len(labels) == 5
    for label in labels:
        assert label.read_bytes() == (tmp_path / "theirs" / "label" / label.name).read_bytes()
    ours, theirs = (
        read_pair_counts(tmp_path / f"{out}-scores" / PAIR_COUNTS_NAME) for out in ("ours", "theirs")
    )
    np.testing.assert_array_equal(ours.matrices["visible"], theirs.matrices["visible"])


def test_false_colours_are_told_to_be_written_into_the_source(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["fuse", "average", "--data", f"shards:{shards}", "--out", str(tmp_path / "out")]
    for given, told in (
        (["--allow_false_colour"], "allow_false_colour=true"),
        (["--infrared_palette", "iron"], "infrared_palette=iron"),
    ):
        assert refused([*command, *given], capsys).endswith(f"into the source: shards:{shards},{told}")


def test_shards_are_checked(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", f"shards:{shards}"]) == 0
    assert "Shards of pairs" in capsys.readouterr().out


def test_workers_do_parts_of_shards(shards: Path, run: Path, tmp_path: Path) -> None:
    def cut(task: str) -> Cut:
        return Cut(
            task=task,
            run=str(run),
            weights_sha256=None,
            source=f"shards:{shards}",
            split="all",
            pairs=5,
            size=2,
        )

    score = ScoreParts(cut("evaluate"), tmp_path / "scores", Path.cwd(), {"device": "cpu"}, 2, ("visible",))
    score.out.mkdir()
    load = {"device": "cpu", "bands": "visible"}
    predict = PredictParts(cut("predict"), tmp_path / "labels", Path.cwd(), load, 2)
    predict.out.mkdir()
    for job in (score, predict):
        do = begun(job)
        assert [do(index) for index in range(3)] == [Done(2), Done(2), Done(1)]
        # What is there is left alone.
        assert do(1) == Done(2)
    assert len(joined([read_pair_counts(score.file(index)) for index in range(3)]).names) == 5
    assert len([*predict.out.glob("part-*/label/*.png")]) == 5


@pytest.mark.slow
def test_a_cluster_does_shards(shards: Path, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    cut = Cut(
        task="evaluate",
        run=str(run),
        weights_sha256=None,
        source=f"shards:{shards}",
        split="all",
        pairs=5,
        size=2,
    )
    job = ScoreParts(cut, tmp_path, Path.cwd(), {"device": "cpu"}, 2, ("visible",))
    assert do_parts(job, Launcher("ray")) == Done(5)
    assert do_parts(job, Launcher("ray")) == Done(5)
