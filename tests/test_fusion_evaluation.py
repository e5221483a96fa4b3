"""Scoring fused pictures in one pass, against direct calls of the metrics and against numbers by hand."""

import csv
import io
import json
import math
import re
import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from crossband.errors import BandError, OptionError, PairError
from crossband.evaluation import ALL, UNSPECIFIED, FusionEvaluation, evaluate_fusion
from crossband.evaluation.fusion import spread_evenly
from crossband.metrics import fusion_scores
from crossband.metrics.fusion import CONVENTIONS, METRICS
from crossband.pairs.base import Pair, Pairs
from crossband.report import (
    fusion_csv,
    fusion_dict,
    fusion_page,
    fusion_text,
    spread_chart,
    write_fusion_evaluation,
)
from crossband.report.fusion_files import describe_stretching, metrics_of_tables
from crossband.systems.base import NetworkSettings, Output, System

SIZES = [(24, 30), (24, 30), (40, 26), (24, 30), (24, 30)]
CONDITIONS = ["night", "day", "day", "night", "day"]


class ArrayPairs(Pairs):
    """Pairs held in memory."""

    source, split, classes = "memory:<here>", "test", None

    def __init__(self, pairs, bands=("visible", "infrared")):
        self.pairs, self.bands, self.reads = pairs, bands, []

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        self.reads.append(index)
        return self.pairs[index]

    def name(self, index):
        return self.pairs[index].name

    def condition(self, index):
        return self.pairs[index].condition


class Blend(System):
    """A share of the visible image, the rest infrared; one parameter, and a dropout that eval mode stops."""

    name, summary, paper = "blend", "", ""
    segments, fuses = False, True
    supports = {"both": "designed"}  # noqa: RUF012
    multiple = 4

    def __init__(self, share=0.5):
        super().__init__(None, NetworkSettings())
        self.share = nn.Parameter(torch.tensor(float(share)))
        self.dropout = nn.Dropout(0.9)

    def run(self, visible, infrared, *, features):
        return Output(fused=self.dropout(self.share * visible + (1 - self.share) * infrared))

    def deployed(self, bands):
        return [self]


def blended(pair, share=0.5):
    """What `Blend` makes of a pair as a file would hold it: uint8 (H, W, 3)."""
    fused = np.float32(share) * pair.visible + np.float32(1 - share) * pair.infrared[..., None]
    return np.rint(fused * 255).astype(np.uint8)


def levels(image):
    return np.rint(image * 255).astype(np.uint8)


@pytest.fixture
def pairs():
    """Smooth pairs with noise, of two sizes and two conditions; values in between the 8-bit levels."""
    rng = np.random.default_rng(3)
    made = []
    for index, (size, condition) in enumerate(zip(SIZES, CONDITIONS, strict=True)):
        row, column = np.mgrid[: size[0], : size[1]] / max(size)
        noise = rng.random((*size, 4)) * 0.3
        visible = 0.6 * np.stack([row, column, row * column], axis=2) + noise[..., :3]
        infrared = 0.6 * np.cos(3 * row + index) ** 2 + noise[..., 3]
        made.append(
            Pair(f"p{index}", visible.astype(np.float32), infrared.astype(np.float32), None, condition)
        )
    return ArrayPairs(made)


@pytest.fixture
def folder(pairs, tmp_path):
    """A folder of fused pictures for the pairs, of several suffixes, one of them grey."""
    for pair, suffix in zip(pairs.pairs, (".png", ".PNG", ".bmp", ".tif", ".png"), strict=True):
        picture = blended(pair, 0.8)
        Image.fromarray(picture[..., 0] if pair.name == "p3" else picture).save(
            tmp_path / (pair.name + suffix)
        )
    return tmp_path


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize(("convention", "metrics"), [("standard", None), ("cddfuse", ["MI", "SSIM", "SD"])])
def test_every_value_is_that_of_a_direct_call(pairs, folder, convention, metrics, batch_size):
    evaluation = evaluate_fusion(
        {"half": Blend(), "files": folder},
        pairs,
        convention=convention,
        metrics=metrics,
        batch_size=batch_size,
        workers=batch_size - 1,
    )
    names = [metric.name for metric in METRICS if metric.name in (metrics or CONVENTIONS[convention].metrics)]
    assert [metric.name for metric in evaluation.metrics] == names
    for index, pair in enumerate(pairs.pairs):
        file = blended(pair, 0.8)
        for method, picture in {
            "half": blended(pair),
            "files": file[..., 0] if pair.name == "p3" else file,
        }.items():
            direct = fusion_scores(
                picture, levels(pair.visible), levels(pair.infrared), convention, metrics=metrics
            )
            found = {metric: values[index] for metric, values in evaluation.methods[method].values.items()}
            assert found == pytest.approx(direct, rel=1e-9, nan_ok=True), (method, pair.name)


def test_means_and_spreads_are_those_of_the_defined_values_per_condition(pairs):
    flat = replace(pairs.pairs[1], infrared=np.full(SIZES[1], 0.5, np.float32))
    pairs.pairs[1] = flat
    evaluation = evaluate_fusion({"half": Blend()}, pairs, metrics=["CC", "EN"])
    cc = evaluation.methods["half"].values["CC"]
    assert [math.isnan(value) for value in cc] == [False, True, False, False, False]
    scopes = {scope.condition: scope for scope in evaluation.scopes}
    assert list(scopes) == [ALL, "day", "night"]
    assert {name: scope.pairs for name, scope in scopes.items()} == {ALL: 5, "day": 3, "night": 2}
    spread = scopes[ALL].spreads["CC"]["half"]
    assert (spread.defined, spread.undefined) == (4, 1)
    defined = [value for value in cc if not math.isnan(value)]
    assert spread.mean == pytest.approx(statistics.fmean(defined))
    assert spread.std == pytest.approx(statistics.stdev(defined))
    day = scopes["day"].spreads["CC"]["half"]
    assert day[:2] == pytest.approx((statistics.fmean([cc[2], cc[4]]), statistics.stdev([cc[2], cc[4]])))
    assert (day.defined, day.undefined) == (2, 1)
    assert scopes["night"].spreads["EN"]["half"].undefined == 0
    assert "[4]" in fusion_text(evaluation)


def test_a_condition_named_all_is_not_all_pairs(pairs):
    named = ArrayPairs([replace(p, condition=p.condition.replace("day", "all")) for p in pairs.pairs])
    evaluation = evaluate_fusion({"half": Blend()}, named, metrics=["SD"])
    expected = {ALL: 5, "all (condition)": 3, "night": 2}
    assert {scope.condition: scope.pairs for scope in evaluation.scopes} == expected
    assert list(fusion_dict(evaluation)["methods"]["half"]["scores"]) == list(expected)


def test_without_conditions_there_is_one_table(pairs):
    plain = ArrayPairs([replace(pair, condition=None) for pair in pairs.pairs])
    alike = ArrayPairs([replace(pair, condition="day") for pair in pairs.pairs])
    for evaluation in (
        evaluate_fusion({"half": Blend()}, plain, metrics=["SD"]),
        evaluate_fusion({"half": Blend()}, pairs, metrics=["SD"], by=None),
        evaluate_fusion({"half": Blend()}, alike, metrics=["SD"]),
    ):
        assert [scope.condition for scope in evaluation.scopes] == [ALL]
    mixed = ArrayPairs([replace(pairs.pairs[0], condition=None), *pairs.pairs[1:]])
    evaluation = evaluate_fusion({"half": Blend()}, mixed, metrics=["SD"])
    assert evaluation.pairs_by_condition == {"day": 3, "night": 1, UNSPECIFIED: 1}


def test_the_best_mean_is_marked_and_a_lower_one_where_lower_is_better(pairs):
    methods = {"infrared": Blend(0), "half": Blend(), "again": Blend()}
    evaluation = evaluate_fusion(methods, pairs, metrics=["SD", "MSE"], bands_alone=False)
    best = evaluation.scopes[0].best
    assert best == {"SD": {"infrared"}, "MSE": {"half", "again"}}
    text = fusion_text(evaluation)
    rows = {line.split()[0]: line for line in text.splitlines() if " ± " in line}
    marks = {name: re.findall(r"(\* )?\d+\.\d+ ±", rows[name]) for name in methods}
    assert marks == {"infrared": ["* ", ""], "half": ["", "* "], "again": ["", "* "]}
    assert re.search(r"^method +SD ↑ +MSE ↓$", text, re.MULTILINE)
    alone = evaluate_fusion({"half": Blend()}, pairs, metrics=["SD"], bands_alone=False)
    assert alone.scopes[0].best == {"SD": frozenset()}


def test_no_method_is_best_where_methods_are_defined_on_different_pairs(pairs):
    evaluation = evaluate_fusion({"a": Blend(1), "b": Blend()}, pairs, metrics=["SD", "EN"])
    method = evaluation.methods["a"]
    method.values["SD"][2] = math.nan
    assert evaluation.scopes[0].best["SD"] == frozenset()
    assert evaluation.scopes[0].best["EN"]


def test_each_pair_is_read_once_and_progress_is_told(pairs, folder):
    seen = []
    evaluate_fusion(
        {"a": Blend(), "b": folder},
        pairs,
        metrics=["SD"],
        progress=lambda done, total: seen.append((done, total)),
    )
    assert pairs.reads == [0, 1, 2, 3, 4]
    assert seen == [(done, 5) for done in range(1, 6)]


def test_systems_are_in_eval_mode_without_gradients_and_then_as_before(pairs):
    system = Blend().train()
    inside = []
    system.dropout.register_forward_hook(lambda m, _, out: inside.append((m.training, out.requires_grad)))
    evaluate_fusion({"a": system}, pairs, metrics=["SD"])
    assert inside == [(False, False)] * 5
    assert system.training
    assert system.dropout.training


def test_stretching_is_what_a_stretched_file_would_score_and_is_told(pairs, tmp_path):
    for pair in pairs.pairs:
        picture = blended(pair).astype(float)
        low, high = picture.min(), picture.max()
        stretched = np.rint((picture - low) / (high - low) * 255).astype(np.uint8)
        Image.fromarray(stretched).save(tmp_path / f"{pair.name}.png")
    ours = evaluate_fusion({"a": Blend()}, pairs, stretch=True)
    plain = evaluate_fusion({"a": Blend()}, pairs)
    theirs = evaluate_fusion({"a": tmp_path}, pairs)
    assert ours.methods["a"].values["SD"] == pytest.approx(theirs.methods["a"].values["SD"])
    assert ours.methods["a"].values["SD"][0] > plain.methods["a"].values["SD"][0] + 1
    assert describe_stretching(ours, "a").startswith("yes")
    assert describe_stretching(plain, "a").startswith("no")
    assert theirs.methods["a"].stretched is None
    assert describe_stretching(theirs, "a").startswith("probably")
    assert fusion_dict(theirs)["methods"]["a"]["probably_stretched"] is True
    # One picture that does not span 0..255 is enough: whoever stretches, stretches all.
    Image.fromarray(blended(pairs.pairs[0])).save(tmp_path / "p0.png")
    told = describe_stretching(evaluate_fusion({"a": tmp_path}, pairs, metrics=["SD"]), "a")
    assert told == "not known, made elsewhere; 4 of 5 span 0..255"


def test_sources_that_span_the_range_are_counted(pairs):
    pairs.pairs[2].visible[0, 0], pairs.pairs[2].visible[1, 1] = 0, 1
    evaluation = evaluate_fusion({"a": Blend()}, pairs, metrics=["SD"])
    assert evaluation.sources_full_range == {"visible": 1, "infrared": 0}


def test_labels_are_not_looked_at(pairs):
    with_labels = ArrayPairs([replace(p, label=np.zeros(p.size, np.uint8)) for p in pairs.pairs[:2]])
    with_labels.pairs[1].label = None
    system, sizes = Blend(), []
    system.dropout.register_forward_hook(lambda *args: sizes.append(len(args[2])))
    evaluate_fusion({"a": system}, with_labels, metrics=["SD"], batch_size=2)
    assert sizes == [2], "a pair with a label and one without do not share a batch"


def test_a_predictors_system_is_taken(pairs):
    class Holder:
        system = Blend()

    found = evaluate_fusion({"a": Holder()}, pairs, metrics=["SD"]).methods["a"]
    assert found == evaluate_fusion({"a": Blend()}, pairs, metrics=["SD"]).methods["a"]


def test_examples_are_the_pictures_themselves_from_every_condition(pairs):
    evaluation = evaluate_fusion({"a": Blend()}, pairs, metrics=["SD"], examples=2, batch_size=2)
    assert [(example.pair, example.condition) for example in evaluation.examples] == [
        ("p2", "day"),
        ("p3", "night"),
    ]
    for example, index in zip(evaluation.examples, (2, 3), strict=True):
        pair = pairs.pairs[index]
        assert (example.visible == levels(pair.visible)).all()
        assert (example.infrared == levels(pair.infrared)).all()
        assert (example.fused["a"] == blended(pair)).all()


@pytest.mark.parametrize(
    ("conditions", "count", "expected"),
    [
        ([None] * 9, 3, {1, 4, 7}),
        (["day"] * 8 + ["night"] * 2, 4, {2, 6, 8, 9}),
        (["day"] * 4 + ["night"], 4, {0, 2, 3, 4}),
        (["day", None], 5, {0, 1}),
        (["day"], 0, set()),
    ],
)
def test_examples_are_spreadspread_evenly(conditions, count, expected):
    assert spread_evenly(conditions, count) == expected


class Silent(Blend):
    def run(self, visible, infrared, *, features):
        return Output()


class Diverged(Blend):
    def run(self, visible, infrared, *, features):
        return Output(fused=visible * math.nan)


class Labels(Blend):
    name, fuses = "labels", False


class InfraredOnly(Blend):
    supports = {"infrared": "designed"}  # noqa: RUF012


@pytest.mark.parametrize(
    ("methods", "options", "error", "message"),
    [
        ({}, {}, OptionError, "nothing to score"),
        ({"a": Labels()}, {}, OptionError, "labels gives no fused picture"),
        ({"a": InfraredOnly()}, {}, BandError, "cannot run on both bands"),
        ({"a": Silent()}, {}, OptionError, "no fused picture for p0"),
        ({"a": Diverged()}, {}, OptionError, "NaN for p0"),
        ({"a": Blend()}, {"convention": "mine"}, OptionError, "unknown convention 'mine'"),
        (
            {"a": Blend()},
            {"convention": "vifb", "metrics": ["SCD"]},
            OptionError,
            "vifb has no metrics 'SCD'",
        ),
        (
            {"a": Blend()},
            {"metrics": "EN"},
            OptionError,
            r"metrics are names in a list, such as \['EN'\], not 'EN' alone",
        ),
        ([Blend()], {}, OptionError, "methods is a list: give each by a name"),
        ({"a": Blend()}, {"device": "nowhere"}, OptionError, "cannot compute on device nowhere"),
        ({"a": Blend()}, {"by": "weather"}, OptionError, "'weather'"),
        ({"a": Blend()}, {"precision": "int8"}, OptionError, "unknown precision"),
        ({"a": Blend()}, {"batch_size": 0}, OptionError, "batch size"),
    ],
)
def test_requests_that_cannot_be_served_are_one_clear_line(pairs, methods, options, error, message):
    with pytest.raises(error, match=message) as caught:
        evaluate_fusion(methods, pairs, **options)
    assert "\n" not in str(caught.value)


def test_pairs_that_cannot_be_scored_are_one_clear_line(pairs):
    with pytest.raises(BandError, match="only infrared images"):
        evaluate_fusion({"a": Blend()}, ArrayPairs(pairs.pairs, bands=("infrared",)))
    with pytest.raises(PairError, match="has no pairs"):
        evaluate_fusion({"a": Blend()}, ArrayPairs([]))


def test_of_a_batch_the_pair_is_named_that_one_camera_saw_in_part(pairs):
    seen = np.ones(SIZES[4], bool)
    seen[:2] = False
    pairs.pairs[4] = replace(pairs.pairs[4], valid=seen)
    with pytest.raises(OptionError, match="pair 'p4' has pixels that only one camera of the rig saw"):
        evaluate_fusion({"a": Blend()}, pairs, batch_size=5)


def _remove(folder):
    (folder / "p0.png").unlink()
    (folder / "p2.bmp").unlink()


def _add(folder):
    Image.new("L", (3, 3)).save(folder / "p9.png")


def _both(folder):
    (folder / "p0.png").rename(folder / "q0.png")


def _resize(folder):
    Image.new("RGB", (30, 25)).save(folder / "p4.png")


def _empty(folder):
    for path in folder.iterdir():
        path.unlink()


def _damage(folder):
    (folder / "p0.png").write_bytes((folder / "p0.png").read_bytes()[:200])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_remove, r"2 of 5 pairs have no picture \(p0, p2\);"),
        (_add, r"1 pictures are no pair's \(p9\);"),
        (_both, r"1 of 5 pairs have no picture \(p0\) and 1 pictures are no pair's \(q0\)"),
        (_resize, r"p4.png is 25 x 30, but pair 'p4' is 24 x 30 \(height x width\)"),
        (_empty, "no image in it"),
        (_damage, "p0.png"),
    ],
)
def test_a_wrong_folder_is_one_clear_line(pairs, folder, break_it, message):
    break_it(folder)
    with pytest.raises(PairError, match=message) as caught:
        evaluate_fusion({"a": folder}, pairs)
    assert "\n" not in str(caught.value)


def test_what_is_no_folder_is_refused(pairs, folder):
    for path in (folder / "nothing", folder / "p0.png"):
        with pytest.raises(PairError, match="there is no such folder of fused pictures"):
            evaluate_fusion({"a": path}, pairs)


@pytest.fixture
def evaluation(pairs, folder):
    flat = replace(pairs.pairs[1], infrared=np.full(SIZES[1], 0.5, np.float32))
    pairs.pairs[1] = flat
    nasty = 'a <b>, "c" $x$'
    found = evaluate_fusion({nasty: Blend(), "files": folder}, pairs, convention="linfeng2022", examples=3)
    found.provenance = {"command": "crossband evaluate '<x>'", "training": None}
    return found


def test_old_spellings_go_on_and_warn(evaluation, pairs):
    with pytest.warns(DeprecationWarning, match=r"FusionEvaluation\.to_text is deprecated"):
        assert evaluation.to_text() == fusion_text(evaluation)
    with pytest.warns(DeprecationWarning, match="use convention="):
        old = evaluate_fusion({"a": Blend()}, pairs, preset="cddfuse", metrics=["MI"])
    new = evaluate_fusion({"a": Blend()}, pairs, convention="cddfuse", metrics=["MI"])
    assert old.methods == new.methods


def test_csv_has_every_value_of_every_picture(evaluation):
    rows = list(csv.DictReader(io.StringIO(fusion_csv(evaluation))))
    assert list(rows[0]) == ["method", "pair", "condition", "metric", "value"]
    # Two methods, and each band alone.
    assert len(rows) == 4 * 5 * len(evaluation.metrics)
    for row in rows:
        index = evaluation.pairs.index(row["pair"])
        value = evaluation.methods[row["method"]].values[row["metric"]][index]
        assert row["condition"] == CONDITIONS[index]
        assert row["value"] == ("" if math.isnan(value) else repr(value))
    assert {row["value"] for row in rows if row["metric"] == "CC" and row["pair"] == "p1"} == {""}


def test_csv_runs_no_name_of_a_pair(pairs):
    evaluation = evaluate_fusion({"half": Blend()}, pairs, metrics=["EN"], bands_alone=False)
    table = fusion_csv(replace(evaluation, pairs=["=1+1", *evaluation.pairs[1:]]))
    told = [row["pair"] for row in csv.DictReader(io.StringIO(table))]
    assert told == ["'=1+1", *evaluation.pairs[1:]]


def test_json_has_everything_and_no_nan(evaluation):
    told = json.loads(json.dumps(fusion_dict(evaluation), allow_nan=False))
    assert told["convention"]["name"] == "linfeng2022"
    assert told["convention"]["changes"] == list(CONVENTIONS["linfeng2022"].changes)
    method = told["methods"]["files"]
    assert method["stretched"] is None
    scores = method["scores"]
    assert list(scores) == [ALL, "day", "night"]
    assert scores[ALL]["CC"]["undefined"] == 1
    assert method["values"]["CC"][1] is None
    assert scores[ALL]["SD"]["mean"] == pytest.approx(statistics.fmean(method["values"]["SD"]))


def test_a_metric_on_0_to_1_keeps_digits_that_count(evaluation):
    """SF and MSE of linfeng2022 are on 0..1: the decimals of 0..255 would print zeros."""
    tables = re.split(r"^method +", fusion_text(evaluation), flags=re.MULTILINE)[1:]
    read = []
    for head, _, *rows in map(str.splitlines, tables):
        # Columns stand three spaces apart, a mark before the best mean one space.
        titles = re.split(r"  +", head)
        for row in rows[:2]:
            cells = dict(zip(titles, re.split(r"  +", row)[-len(titles) :], strict=True))
            read += [cells[name].removeprefix("* ").split()[0] for name in ("SF ↑", "MSE ↓") if name in cells]
    assert len(read) == 2 * 2 * len(evaluation.scopes)
    assert all(len(mean.replace(".", "").lstrip("0")) >= 2 for mean in read), read


def test_a_perfect_copy_has_an_infinite_psnr_that_no_file_chokes_on(tmp_path):
    grey = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    pairs = ArrayPairs([Pair(name, np.repeat(grey[..., None], 3, 2), grey) for name in "ab"])
    evaluation = evaluate_fusion({"a": Blend()}, pairs, metrics=["PSNR", "SD"])
    assert evaluation.methods["a"].values["PSNR"] == [math.inf] * 2
    write_fusion_evaluation(evaluation, tmp_path)
    told = json.loads((tmp_path / "fusion.json").read_text())
    assert told["methods"]["a"]["scores"][ALL]["PSNR"]["mean"] is None
    assert "inf" in (tmp_path / "fusion.csv").read_text()


def test_the_page_is_self_contained_and_says_what_must_be_known(evaluation):
    html = fusion_page(evaluation).html()
    assert "<script" not in html
    assert not re.findall(r"https?://|@import|(?:src|href)=\"(?!data:|#)", html)
    assert "a &lt;b&gt;, &quot;c&quot; $x$" in html
    assert html.count("<img ") == 3 * 4
    for text in (
        CONVENTIONS["linfeng2022"].summary,
        CONVENTIONS["linfeng2022"].changes[0],
        "docs/fusion-metrics.md",
        "Fused pictures of 2 methods on",
        "not known, made elsewhere",
        "no, scored as fused",
        "undefined on 1",
        "All pairs (5)",
        "day (3)",
        "night (2)",
        "<strong>",
        "↓",
        "<svg",
    ):
        assert text in html, text


def test_write_writes_all_four_files_and_each_whole(evaluation, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_fusion_evaluation(evaluation, out)
    assert {path.name for path in out.iterdir()} == {f"fusion.{s}" for s in ("json", "csv", "txt", "html")}
    assert (out / "fusion.txt").read_text() == fusion_text(evaluation)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OptionError, match="cannot write"):
        write_fusion_evaluation(evaluation, tmp_path / "file" / "out")
    monkeypatch.setattr(FusionEvaluation, "metrics", property(lambda self: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        write_fusion_evaluation(evaluation, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_chart_has_a_panel_per_metric_and_passes_over_what_is_undefined():
    values = {"a": [1.0, 2.0, math.nan], "b": [math.nan, math.inf], "c": [math.inf, 3.0, 4.0]}
    figure = spread_chart({"one $x": values, "two": values, "three": values, "four": values})
    panels = [axes for axes in figure.axes if axes.axison]
    assert len(panels) == 4
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["a", "b", "c"]
    assert len(panels[0].patches) == 2
    with pytest.raises(OptionError, match="no spread"):
        spread_chart({})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_agrees(pairs, folder):
    methods = {"a": Blend(), "b": folder}
    here, there = (evaluate_fusion(methods, pairs, device=device) for device in ("cpu", "cuda"))
    for name in methods:
        for metric, values in here.methods[name].values.items():
            assert there.methods[name].values[metric] == pytest.approx(values, rel=1e-6, nan_ok=True)


def test_many_metrics_are_shared_out_among_tables_that_a_terminal_has_room_for(evaluation):
    parts = metrics_of_tables(evaluation, 4)
    assert [metric for part in parts for metric in part] == evaluation.metrics
    assert {len(part) for part in parts} <= {3, 4}
    rows = [line for line in fusion_text(evaluation).splitlines() if " ± " in line and "Mean" not in line]
    assert max(map(len, rows)) <= 110


def test_each_band_alone_stands_beside_the_methods(pairs):
    methods = {"visible alone": Blend(), "half": Blend()}
    evaluation = evaluate_fusion(methods, pairs, metrics=["SD"])
    assert list(evaluation.methods) == ["visible alone", "half", "infrared alone"]
    # A method keeps its name.
    bands = [method.band for method in evaluation.methods.values()]
    assert bands == [None, None, "infrared"]
    assert list(methods) == ["visible alone", "half"]
    assert list(evaluate_fusion(methods, pairs, metrics=["SD"], bands_alone=False).methods) == list(methods)


def test_a_band_alone_is_a_row_and_no_picture_of_its_own(pairs):
    methods = {"half": Blend(), "other": Blend(0.3), "seen": "visible"}
    evaluation = evaluate_fusion(methods, pairs, metrics=["SCD"], examples=1)
    assert evaluation.methods["seen"].band == "visible"
    assert evaluation.scopes[0].best["SCD"]
    assert evaluation.examples[0].fused.keys() == {"half", "other"}
    told = fusion_text(evaluation)
    assert re.search(r"^seen +– \[0\]$", told, re.MULTILINE)
    assert "seen: no, the image as it is" in told
    assert "Fused pictures of 2 methods on" in fusion_page(evaluation).html()
