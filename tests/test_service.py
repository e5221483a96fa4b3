"""What answers behind the page: as the library does, within limits, and without telling any place."""

from __future__ import annotations

import base64
import csv
import io
import shutil
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import crossband as cb
from crossband.errors import OptionError
from crossband.pairs.base import Classes, Pair
from crossband.pairs.writing import write_label
from crossband.pictures import class_shares
from crossband.serve.answer import changed
from crossband.serve.archive import write_archive
from crossband.serve.drawing import answer_html, batch_html, error_html
from crossband.serve.limits import Limits
from crossband.serve.refusing import Refused, refusing, shown_name, without_places
from crossband.serve.service import Service, Upload
from radiometric_files import flir_block, flir_jpeg, jpeg
from serving import NAMES, SIZE, counts, image, small_service, upload


@pytest.fixture(scope="module")
def service(street_run: Path) -> Iterator[Service]:
    made = small_service(street_run)
    yield made
    made.close()


def first(pairs: dict[str, list[Path]]) -> tuple[Upload, Upload]:
    return upload(pairs["visible"][0]), upload(pairs["infrared"][0])


def decoded(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def refusal(call: Any, *arguments: Any, **more: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        call(*arguments, **more)
    assert "\n" not in str(caught.value)
    assert "/tmp" not in str(caught.value)
    return caught.value


class TestOnePair:
    def test_the_answer_is_the_library_s(
        self, service: Service, street_run: Path, street_pairs: dict[str, list[Path]]
    ) -> None:
        visible, infrared = first(street_pairs)
        told = service.answer(visible, infrared, compare=True).as_json()
        predictor = cb.load(street_run, device="cpu")
        whole = predictor(visible.path, infrared.path)
        assert whole.labels is not None
        assert (told["bands"], told["support"], told["size"]) == ("both", "designed", list(SIZE))
        np.testing.assert_array_equal(decoded(told["pictures"]["label"]), whole.labels)
        np.testing.assert_array_equal(decoded(told["pictures"]["overlay"]), np.asarray(whole.overlay()))
        shares = {one["name"]: one["share"] for one in told["shares"]}
        assert shares == {
            name: float((whole.labels == n).mean()) for n, name in enumerate(NAMES) if name in shares
        }
        assert sum(shares.values()) == pytest.approx(1)
        alone = predictor(None, infrared.path)
        assert alone.labels is not None
        assert told["alone"]["infrared"]["changed"] == float((alone.labels != whole.labels).mean())
        assert told["alone"]["visible"]["support"] == "fallback"

    def test_one_image_is_enough(self, service: Service, street_pairs: dict[str, list[Path]]) -> None:
        answer = service.answer(infrared=first(street_pairs)[1], compare=True)
        assert (answer.whole.bands, answer.alone) == ("infrared", {})

    def test_a_system_that_only_fuses(self, service: Service, street_pairs: dict[str, list[Path]]) -> None:
        visible, infrared = first(street_pairs)
        answer = service.answer(visible, infrared, system="average", compare=True)
        fused = cb.load("average")(visible.path, infrared.path).fused
        assert fused is not None
        np.testing.assert_array_equal(decoded(answer.as_json()["pictures"]["fused"]), fused)
        assert answer.whole.labels is None
        assert 0 < answer.changed("visible") < 1

    def test_radiometric_images_and_counts_are_read_as_they_are(
        self, service: Service, tmp_path: Path
    ) -> None:
        measured = np.linspace(9000, 12000, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint16)
        picture = jpeg(np.zeros((*SIZE, 3), np.uint8))
        (tmp_path / "hot.JPG").write_bytes(flir_jpeg(flir_block(measured), picture))
        for path in (tmp_path / "hot.JPG", counts(tmp_path / "hot.tiff", 9000, 12000)):
            fused = service.answer(infrared=upload(path), system="average").whole.fused
            assert fused is not None
            assert np.ptp(fused) > 200, "an 8-bit preview would be black"

    def test_nobody_s_images_decide_how_another_s_are_scaled(self, service: Service, tmp_path: Path) -> None:
        hot, cold = counts(tmp_path / "hot.tiff", 9000, 12000), counts(tmp_path / "cold.tiff", 2000, 2500)
        alone = service.answer(infrared=upload(cold), system="average")
        service.answer(infrared=upload(hot), system="average")
        again = service.answer(infrared=upload(cold), system="average")
        assert again.scaling == alone.scaling
        service.batch([], [upload(hot)], tmp_path / "hot.zip", system="average")
        service.batch([], [upload(cold)], tmp_path / "cold.zip", system="average")
        with zipfile.ZipFile(tmp_path / "cold.zip") as archive:
            picture = np.asarray(Image.open(archive.open("cold.png")))
        np.testing.assert_array_equal(picture, alone.whole.fused)

    def test_a_file_sent_as_both_bands_holds_both(self, service: Service, tmp_path: Path) -> None:
        packed = np.random.default_rng(1).integers(0, 256, (*SIZE, 4), np.uint8)
        Image.fromarray(packed, "RGBA").save(tmp_path / "a.png")
        shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
        answer = service.answer(upload(tmp_path / "a.png"), upload(tmp_path / "b.png", "a.png"))
        assert answer.whole.bands == "both"
        infrared = answer.whole.pair.infrared
        assert infrared is not None
        np.testing.assert_array_equal((infrared * 255).round(), packed[..., 3])


class TestRefusals:
    def test_two_sizes_are_one_line_with_the_sender_s_names(self, service: Service, tmp_path: Path) -> None:
        large, small = image(tmp_path / "x1.png"), counts(tmp_path / "x2.tiff", 0, 65535, (16, 48))
        told = str(refusal(service.answer, upload(large, "a.png"), upload(small, "C:\\me\\b.tiff")))
        assert "a.png is 32 x 48, b.tiff is 16 x 48 (height x width)" in told

    @pytest.mark.parametrize(
        ("name", "content", "why"),
        [
            ("a.png", b"no image", "a.png: "),
            ("a.png", b"", "a.png: the file is empty"),
            ("a.docx", b"x", "a.docx: no image that can be read; send one of"),
            ("../../etc/a.png", b"x" * 99, "a.png: "),
        ],
    )
    def test_a_bad_file(self, service: Service, tmp_path: Path, name: str, content: bytes, why: str) -> None:
        (tmp_path / "sent").write_bytes(content)
        assert str(refusal(service.answer, upload(tmp_path / "sent", name))).startswith(why)

    def test_what_is_not_sent_or_not_there(
        self, service: Service, street_pairs: dict[str, list[Path]]
    ) -> None:
        assert "no image was sent" in str(refusal(service.answer))
        gone = refusal(service.answer, first(street_pairs)[0], system="/etc/passwd")
        assert (gone.status, "street, average" in str(gone)) == (404, True)

    def test_limits(self, street_run: Path, street_pairs: dict[str, list[Path]], tmp_path: Path) -> None:
        visible, infrared = first(street_pairs)
        size = visible.path.stat().st_size
        service = small_service(street_run, megabytes=(size - 1) / 1e6, megapixels=1, pairs=2)
        error = refusal(service.answer, visible)
        assert (error.status, "MB are taken" in str(error)) == (413, True)
        service.limits = Limits(megapixels=0.001, pairs=2)
        assert "32 x 48 pixels (height x width)" in str(refusal(service.answer, visible, infrared))
        service.limits = Limits(pairs=2)
        many = [upload(path) for path in street_pairs["infrared"]]
        assert "no more than 2 pairs" in str(refusal(service.batch, [], many, tmp_path / "a.zip"))
        others = [visible, upload(street_pairs["visible"][1], "other.png")]
        assert "no more than 2 pairs" in str(refusal(service.batch, others, many[:2], tmp_path / "a.zip"))
        assert not (tmp_path / "a.zip").exists()
        service.close()
        for bad in ({"pairs": 0}, {"seconds": float("nan")}):
            with pytest.raises(OptionError, match="must be above 0"):
                Limits(**bad)

    def test_what_takes_too_long_is_refused_and_ends(
        self, street_run: Path, street_pairs: dict[str, list[Path]], tmp_path: Path
    ) -> None:
        service = small_service(street_run, seconds=0.2)
        predictor = service.predictors["street"]
        go_on, slow, predict = threading.Event(), 0.05, predictor.predict_alike

        def slowly(given: list[Pair]) -> Any:
            go_on.wait(60) if slow is None else time.sleep(slow)
            return predict(given)

        predictor.predict_alike = slowly  # type: ignore[method-assign]
        visible, infrared = first(street_pairs)
        slow = 0.15
        many = [upload(path) for path in street_pairs["visible"]]
        error = refusal(service.batch, many, [], tmp_path / "a.zip")
        assert (error.status, "not answered within 0.2 s" in str(error)) == (503, True)
        slow = None  # type: ignore[assignment]
        assert refusal(service.answer, visible, infrared).status == 503
        assert refusal(service.answer, visible, infrared).status == 503, (
            "who waits behind it is not left to wait"
        )
        go_on.set()
        service.limits = replace(service.limits, seconds=60)
        assert service.answer(visible, infrared).whole.bands == "both"
        service.close()
        assert not (tmp_path / "a.zip").exists()

    def test_a_fault_of_ours_is_told_without_details(
        self, street_run: Path, street_pairs: dict[str, list[Path]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        service = small_service(street_run)

        def broken(given: list[Pair]) -> Any:
            raise ValueError(f"secret {street_run}")

        service.predictors["street"].predict_alike = broken  # type: ignore[method-assign]
        error = refusal(service.answer, first(street_pairs)[0])
        assert (error.status, "secret" in str(error)) == (500, False)
        assert "secret" in capsys.readouterr().err
        service.close()


class TestBatch:
    def test_results_are_those_of_predict(
        self, service: Service, street_run: Path, street_pairs: dict[str, list[Path]], tmp_path: Path
    ) -> None:
        (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
        visible = [*map(upload, street_pairs["visible"]), upload(tmp_path / "bad.png")]
        batch = service.batch(
            visible, [upload(path) for path in street_pairs["infrared"][:2]], tmp_path / "a.zip"
        )
        assert (batch.done, [name for name, _ in batch.failed]) == (3, ["bad"])
        archive = zipfile.ZipFile(tmp_path / "a.zip")
        names = set(archive.namelist())
        stems = [path.stem for path in street_pairs["visible"]]
        assert {f"label/{stem}.png" for stem in stems} <= names
        assert {"classes.json", "legend.png", "failures.csv", "shares.csv"} <= names
        predictor = cb.load(street_run, device="cpu")
        for stem, path, other in zip(
            stems, street_pairs["visible"], [*street_pairs["infrared"][:2], None], strict=True
        ):
            labels = predictor(path, other).labels
            assert labels is not None
            np.testing.assert_array_equal(np.asarray(Image.open(archive.open(f"label/{stem}.png"))), labels)
            row = next(
                row
                for row in csv.DictReader(io.StringIO(archive.read("shares.csv").decode()))
                if row["pair"] == stem
            )
            assert float(row["road"]) == pytest.approx(100 * float((labels == 0).mean()), abs=0.001)
        for name in names:
            if not name.endswith(".png"):
                assert str(Path("/tmp")) not in archive.read(name).decode()
                assert str(street_run) not in archive.read(name).decode()
        assert "bad.png" in archive.read("failures.csv").decode()

    def test_shares_of_classes_that_are_named_as_other_columns(self, tmp_path: Path) -> None:
        names = ("pair", "ignored", "=1+1", "pair (class)")
        classes = Classes(names, tuple((number, 0, 0) for number in range(4)))
        labels = np.array([[0, 0, 0, 0], [1, 1, 1, 2], [3, 3, 255, 255]], np.uint8)
        write_label(tmp_path / "out" / "label" / "first.png", labels, classes.palette)
        write_archive(tmp_path / "out", tmp_path / "a.zip", classes, {})
        with zipfile.ZipFile(tmp_path / "a.zip") as archive:
            header, row = csv.reader(io.StringIO(archive.read("shares.csv").decode()))
        assert header == [
            *("pair", "pair (class) (class)", "ignored (class)", "'=1+1", "pair (class)", "ignored")
        ]
        assert row == ["first", "33.333", "25.000", "8.333", "16.667", "16.667"]

    def test_long_names_are_told_apart_by_their_ends(
        self, service: Service, street_pairs: dict[str, list[Path]], tmp_path: Path
    ) -> None:
        names = [f"{'a' * 90}{number}" for number in range(3)]
        visible = [upload(street_pairs["visible"][number], f"{names[number]}.png") for number in (0, 1)]
        infrared = [upload(street_pairs["infrared"][number], f"{names[number]}.png") for number in (1, 2)]
        service.batch(visible, infrared, tmp_path / "out.zip", system="average")
        with zipfile.ZipFile(tmp_path / "out.zip") as archive:
            assert archive.namelist() == [f"{name}.png" for name in names]
            (tmp_path / "paired.png").write_bytes(archive.read(f"{names[1]}.png"))
        given = (street_pairs[band][1] for band in ("visible", "infrared"))
        wanted = cb.load("average", infrared_scaling="full-range")(*given).fused
        assert np.array_equal(np.asarray(Image.open(tmp_path / "paired.png")), wanted)

    def test_refused(self, service: Service, street_pairs: dict[str, list[Path]], tmp_path: Path) -> None:
        out = tmp_path / "a.zip"
        twice = [upload(path, "same.png") for path in street_pairs["visible"][:2]]
        assert "two visible images of one name" in str(refusal(service.batch, twice, [], out))
        assert "no image was sent" in str(refusal(service.batch, [], [], out))
        (tmp_path / "bad").write_bytes(b"nothing")
        bad = [upload(tmp_path / "bad", f"bad{n}.png") for n in range(2)]
        assert "bad0.png: " in str(refusal(service.batch, bad, [], out))
        assert not out.exists()


class TestDrawing:
    def test_a_switch_between_bands_and_shares_in_per_cent(
        self, service: Service, street_pairs: dict[str, list[Path]]
    ) -> None:
        answer = service.answer(*first(street_pairs), compare=True)
        page = answer_html(answer, max_side=24)
        for title in ("both bands", "visible alone", "infrared alone", "side by side"):
            assert f">{title}</label>" in page
        labels = answer.whole.labels
        assert labels is not None
        number, share = class_shares(labels)[0]
        assert f"{100 * share:.1f} %" in page
        assert f"{100 * answer.changed('infrared'):.1f} % of the pixels have another class" in page
        assert "<b>person" not in page
        assert "http" not in page
        assert escape(NAMES[number]) in page

    def test_texts_are_escaped_and_one_band_has_no_switch(
        self, service: Service, street_pairs: dict[str, list[Path]], tmp_path: Path
    ) -> None:
        assert "<script>" not in error_html("<script>")
        assert "<label" not in answer_html(service.answer(infrared=first(street_pairs)[1], compare=True))
        bad = tmp_path / "bad"
        bad.write_bytes(b"nothing")
        visible = [upload(street_pairs["visible"][0]), upload(bad, "<i>.png")]
        told = batch_html(service.batch(visible, [], tmp_path / "a.zip"))
        assert "1 pair answered" in told
        assert "&lt;i&gt;.png: " in told

    def test_ignored_pixels_count_as_no_change(
        self, service: Service, street_pairs: dict[str, list[Path]]
    ) -> None:
        whole = service.answer(*first(street_pairs)).whole
        assert whole.labels is not None
        cut, other = whole.labels.copy(), whole.labels.copy()
        cut[:16] = 255
        other[:16] = 255
        other[16:24] = (other[16:24] + 1) % 5
        assert changed(replace(whole, labels=cut), replace(whole, labels=other)) == 0.5


def test_a_message_names_no_place() -> None:
    names = {Path("/tmp/a b/visible.png"): "mine.png"}
    told = without_places("/tmp/a b/visible.png: see /srv/runs/street/card.json, 3 of 4 px/line", names)
    assert told == "mine.png: see card.json, 3 of 4 px/line"
    assert shown_name("C:\\x\\a\n.png") == "a?.png"
    with pytest.raises(Refused, match=r"^no such thing as x$"), refusing({}):
        raise OptionError("no such thing as /etc/x")


def test_shares_are_of_the_area_the_largest_first() -> None:
    labels = np.array([[1, 1, 255, 255], [255, 0, 2, 2]], np.uint8)
    assert class_shares(labels) == [(1, 0.25), (2, 0.25), (0, 0.125), (255, 0.375)]
