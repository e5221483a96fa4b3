"""A run as a model for others: its model card, the terms it carries, and the way to the hub and back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import crossband as cb
from command_line import refused
from crossband import hub
from crossband.card import Card
from crossband.cli import main
from crossband.errors import CrossbandWarning, OptionError, WeightsError
from crossband.pairs.base import Classes
from crossband.report.model_card import model_card
from crossband.run_card import read_card
from crossband.systems.registry import system_class, without_encoder
from crossband.terms import check_licence, data_terms, encoder_terms, restrictions
from crossband.terms import made_of as terms_made_of
from crossband.weights import make_card, save_run
from crossband.yaml_files import parse_yaml
from tiny_systems import CLASSES, TINY, build, csknet

huggingface_hub = pytest.importorskip("huggingface_hub")
COMMIT = "a" * 40


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    classes = Classes(
        ("road", "car | van", "person", "sky", "tree"), tuple((i, 9, 9) for i in range(CLASSES))
    )
    training = {"data": "scenes,seed=1", "split": "train", "pairs": 7, "seed": 3}
    system = csknet()
    save_run(folder, system, make_card(system, classes, "full-range", training))
    return folder


def changed(run: Path, **fields: Any) -> Card:
    return replace(read_card(run), **fields)


def test_the_model_card_has_a_head_and_says_what_a_user_asks(run: Path) -> None:
    scores = {
        "source": "folder:/home/me/pairs",
        "split": "test",
        "pairs": 40,
        "results": {
            "both": {
                "support": "designed",
                "overall": {"mean_iou": {"present": {"value": 0.51234}}},
                "mean_iou_interval": {"present": [0.5, 0.525]},
            }
        },
    }
    (run / "evaluation-test").mkdir()
    (run / "evaluation-test" / "evaluation.json").write_text(json.dumps(scores))
    (run / "evaluation-val").mkdir()
    (run / "evaluation-val" / "evaluation.json").write_text("damaged")
    card = read_card(run)
    card.training["data"] = "folder:/home/me/pairs"
    with pytest.warns(CrossbandWarning, match=r"evaluation-val/evaluation\.json holds no evaluation of ours"):
        text = model_card(card, run, licence="apache-2.0", place="hf://me/street@abc")
    _, head, body = text.split("---\n", 2)
    assert parse_yaml(head) == {
        "library_name": "crossband",
        "license": "apache-2.0",
        "pipeline_tag": "image-segmentation",
        "tags": ["crossband", "infrared", "thermal", "visible-infrared", "csknet", "image-segmentation"],
    }
    for part in (
        'cb.load("hf://me/street@abc")',
        "| visible | fallback |",
        "| 1 | car \\| van | #010909 |",
        "| folder:pairs | test | 40 | both | 51.23 | 50.0 to 52.5 |",
        "- trained on: folder:pairs, split train: 7 pairs",
        "pairs whose terms Crossband does not know",
        "started from random weights",
        "arXiv 2312.02240",
        f"`{read_card(run).weights_sha256}`",
    ):
        assert part in body
    assert "/home/me" not in body


@pytest.mark.parametrize(
    ("bands", "call"),
    [
        ({"infrared": "designed"}, 'predictor(infrared="infrared.png")\n'),
        ({"both": "designed"}, 'predictor(visible="visible.png", infrared="infrared.png")\n'),
        (
            {"both": "designed", "infrared": "designed", "visible": "fallback"},
            'predictor(visible="visible.png", infrared="infrared.png")  # either may be None\n',
        ),
    ],
)
def test_the_model_card_calls_it_on_bands_that_it_runs_on(
    run: Path, bands: dict[str, str], call: str
) -> None:
    assert call in model_card(changed(run, bands=bands), run, licence="mit")


def test_the_model_card_tells_of_what_was_broken_and_of_a_monitor(run: Path) -> None:
    training = {"augmentation": {"corrupted": 0.5, "band_dropout": 0.2}}
    robust = model_card(changed(run, training=training, monitor={"facts": {}}), run, licence="mit")
    assert "- bands: one broken in 50 % of the pairs, one left out in 20 % of the steps\n" in robust
    assert "It has a band monitor" in robust
    assert "monitor" not in model_card(read_card(run), run, licence="mit")


@pytest.mark.parametrize("monitored", [True, False])
def test_scores_with_a_band_monitor_are_told_apart(run: Path, monitored: bool) -> None:
    found = {"support": "designed", "overall": {"mean_iou": {"present": {"value": 0.5}}}}
    dropped: dict[str, Any] = {"dropped": {"visible": 2, "infrared": 1}} if monitored else {}
    scores = {"source": "scenes", "split": "test", "pairs": 9, "results": {"both": {**found, **dropped}}}
    (run / "evaluation-test").mkdir()
    (run / "evaluation-test" / "evaluation.json").write_text(json.dumps(scores))
    text = model_card(read_card(run), run, licence="mit")
    assert ("| scenes | test | 9 | both (band monitor) | 50.00 |" in text) == monitored
    assert ("the run was scored as `cb.load(..., monitor=True)` gives it" in text) == monitored


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_scores_in_less_precision_are_told_apart(run: Path, precision: str) -> None:
    found = {"support": "fallback", "overall": {"mean_iou": {"present": {"value": 0.5}}}}
    scores = {"source": "scenes", "split": "test", "pairs": 9, "results": {"visible": found}}
    (run / "evaluation-test").mkdir()
    (run / "evaluation-test" / "evaluation.json").write_text(json.dumps({**scores, "precision": precision}))
    marks = "fallback" if precision == "float32" else "fallback, bfloat16"
    assert f"| visible ({marks}) | 50.00 |" in model_card(read_card(run), run, licence="mit")


def test_a_run_without_scores_says_so(run: Path) -> None:
    text = model_card(read_card(run), run, licence="mit")
    assert "None were made with this run's own command" in text
    assert "generated scenes, which have no terms" in text


@pytest.mark.parametrize(
    ("encoder", "start", "data", "reasons"),
    [
        ("mit_b2", "imagenet", "scenes", ["mit_b2"]),
        ("mit_b2", None, "scenes", []),
        ("pvt_v2_b1", "imagenet", "folder:x", []),
        ("resnet50.fb_swsl_ig1b_ft_in1k", "imagenet", "scenes", ["resnet50.fb_swsl_ig1b_ft_in1k"]),
        ("resnet50.fb_swsl_ig1b_ft_in1k", None, "scenes", []),
        ("resnet50.a1_in1k", "imagenet", "scenes", []),
        # Its one set of weights has a licence against commercial use, whichever way it is named.
        ("convnextv2_atto", "/w/convnextv2.safetensors", "mfnet:x", ["convnextv2_atto", "research only"]),
        ("resnet50", None, "mfnet:x", ["research only"]),
        ("mit_b4", "/w/mit_b4.pth", "mvseg:x", ["mit_b4", "research only"]),
        ("resnet50", "imagenet", "msrs:x", []),
        ("resnet50", "imagenet", "of another package:x", []),
    ],
)
def test_weights_of_restricted_origin_are_not_called_free(
    run: Path, encoder: str, start: str | None, data: str, reasons: list[str]
) -> None:
    card = changed(run, network={"encoder": encoder}, encoder_origin=start, training={"data": data})
    found = restrictions(card)
    assert len(found) == len(reasons)
    assert all(reason in one for reason, one in zip(reasons, found, strict=True))
    for licence in ("cc-by-nc-4.0", "other"):
        check_licence(card, licence)
    for licence in ("apache-2.0", "MIT"):
        if reasons:
            with pytest.raises(OptionError, match=f"cannot be published under {licence}: it"):
                check_licence(card, licence)
        else:
            check_licence(card, licence)
    assert ("NVIDIA" in encoder_terms(card)) == (encoder.startswith("mit") and start is not None)


def test_a_licence_that_the_hub_has_no_name_for(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["card", str(run), "--license", "Other", "--license_name", "our-licence-1.0"]
    assert main([*arguments, "--license_link", "https://example.org/licence"]) == 0
    text = capsys.readouterr().out
    head = huggingface_hub.ModelCard(text).data
    assert (head.license, head.license_name) == ("other", "our-licence-1.0")
    assert head.license_link == "https://example.org/licence"
    assert "under [`our-licence-1.0`](https://example.org/licence)." in text
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert huggingface_hub.ModelCard(text).data.license_link is None
    assert "under `our-licence-1.0`." in text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["--license", "mit", "--license_name", "ours"],
            "license_name and license_link are for --license other",
        ),
        (
            ["--license", "other", "--license_link", "LICENSE"],
            "license_link is of a licence that has a name: give license_name too",
        ),
        (["--license", "other", "--license_name", "Our licence"], "license_name: small letters, digits"),
        (
            ["--license", "other", "--license_name", "ours", "--license_link", "../licence.txt"],
            "license_link: an address (https://...) or LICENSE or LICENSE.md for a file beside the model "
            "card, not '../licence.txt'",
        ),
    ],
)
def test_a_name_or_link_of_a_licence_that_the_hub_would_not_take(
    run: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(["card", str(run), *more], capsys).startswith(said)


@pytest.mark.parametrize(
    ("licence", "hint"),
    [("banana", ""), ("apache2.0", "; did you mean apache-2.0?"), ("gpl-3.0-or-later", "?")],
)
def test_a_licence_that_the_hub_does_not_know_is_refused_before_it_is_asked(
    run: Path,
    licence: str,
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: pytest.fail("the hub was asked"))
    for command in (["push", str(run), "me/street"], ["card", str(run)]):
        said = refused([*command, "--license", licence], capsys)
        assert said.startswith(f"the Hugging Face Hub knows no licence '{licence}': name one such as")
        assert "or other for one" in said
        assert said.endswith(hint)


def test_a_licence_is_written_as_the_hub_has_it(run: Path) -> None:
    text = model_card(read_card(run), run, licence="Apache-2.0")
    assert parse_yaml(text.split("---\n", 2)[1])["license"] == "apache-2.0"
    assert "under `apache-2.0`" in text


def test_terms_load_timm_only_where_a_licence_is_looked_up(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys, crossband.report.model_card; print({'torch', 'timm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    monkeypatch.setattr("crossband.terms.find_spec", lambda name: None)
    for start, encoder in ((None, "resnet50"), ("imagenet", "mit_b2")):
        restrictions(changed(run, network={"encoder": encoder}, encoder_origin=start))
    card = changed(run, network={"encoder": "resnet50"}, encoder_origin="imagenet")
    with pytest.raises(OptionError, match=r"of encoder resnet50 is looked up in timm, .* pip install"):
        check_licence(card, "apache-2.0")


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ("tf_efficientnet_lite0", "which timm states as apache-2.0 for this encoder's usual weights; "),
        (
            "convnextv2_atto",
            "states as cc-by-nc-4.0 for this encoder's usual weights, not for commercial",
        ),
        ("fastvit_mci0", "states as apple-amlr for this encoder's usual weights, not for commercial use; "),
        # smp's own, the licences of which it does not state, and timm's of no stated licence.
        ("resnet34", "which Crossband does not know"),
        ("res2net50_26w_4s", "which Crossband does not know"),
        ("of another package", "which Crossband does not know"),
    ],
)
def test_the_licence_of_published_weights_is_told(run: Path, encoder: str, said: str) -> None:
    card = changed(run, network={"encoder": encoder}, encoder_origin="imagenet")
    assert said in encoder_terms(card)
    assert said in model_card(card, run, licence="cc-by-nc-4.0")


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (
            "cc-by-nc-4.0",
            "timm states as cc-by-nc-4.0 for this encoder's usual weights, not for commercial use",
        ),
        ("bsd-3-clause", "timm states as bsd-3-clause for this encoder's usual weights; "),
        (None, "which Crossband does not know"),
    ],
)
def test_the_licence_that_was_kept_is_not_looked_up_again(
    run: Path, monkeypatch: pytest.MonkeyPatch, kept: str | None, said: str
) -> None:
    monkeypatch.setattr("crossband.terms.find_spec", lambda name: None)
    made: dict[str, Any] = {"network": {"encoder": "tf_efficientnet_lite0"}, "encoder_origin": "imagenet"}
    card = changed(run, **made, training={"data": "scenes", "encoder_licence": kept})
    assert said in encoder_terms(card)
    reasons = restrictions(card)
    assert len(reasons) == (kept == "cc-by-nc-4.0")
    # It goes along with weights that another run takes over.
    other = changed(run, training={"data": "scenes", "origins": [{"run": "first", **terms_made_of(card)}]})
    assert said in data_terms(other)
    assert len(restrictions(other)) == len(reasons)
    assert "imagenet" in data_terms(other)
    # What no version wrote is no licence.
    with pytest.raises(OptionError, match="looked up in timm"):
        restrictions(changed(run, **made, training={"data": "scenes", "encoder_licence": 3}))


def test_the_terms_of_data_and_of_reused_phases_are_told(run: Path) -> None:
    card = changed(run, training={"data": "fmb:x", "checkpoint": {"teacher": {"reused": "runs/t"}}})
    assert "The repository states none. Phase teacher comes from another run" in data_terms(card)
    assert "does not know" in data_terms(changed(run, training={}))


@pytest.mark.parametrize(
    ("made_of", "reason"),
    [
        (
            {"data": "mfnet:x", "encoder": "resnet18", "encoder_origin": None},
            "weights that were trained on MFNet",
        ),
        (
            {"data": "scenes", "encoder": "mit_b1", "encoder_origin": "imagenet"},
            "an encoder mit_b1 that started",
        ),
    ],
)
def test_terms_go_along_with_weights_that_another_run_takes_over(
    run: Path, made_of: dict[str, Any], reason: str
) -> None:
    training = {"data": "scenes,seed=1", "start_from": "/home/me/first", "origins": [{"run": "a", **made_of}]}
    card = changed(run, training=training)
    (found,) = restrictions(card)
    assert found.startswith(f"it took over {reason}")
    with pytest.raises(OptionError, match=r"cannot be published under apache-2\.0: it took over"):
        model_card(card, run, licence="apache-2.0")
    text = model_card(card, run, licence="cc-by-nc-4.0")
    assert "started at the weights of another run" in text
    assert "/home/me" not in text


def test_statistics_that_were_taken_from_other_pairs_have_terms_too(run: Path) -> None:
    card = changed(run, training={"data": "scenes", "recalibrated": {"data": "mfnet:/home/me/MFNet"}})
    assert restrictions(card) == [
        "the statistics of its batch norms come from MFNet (ir_seg_dataset), which is for research only"
    ]
    with pytest.raises(OptionError, match=r"cannot be published under mit: the statistics"):
        check_licence(card, "mit")
    assert "The statistics of its batch norms were taken from MFNet (" in data_terms(card)


def in_cache(monkeypatch: pytest.MonkeyPatch, cache: Path, run: Path) -> None:
    """A run as the hub's own package keeps what it fetched, on a machine without a network."""
    snapshot = cache / "models--me--street" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name in ("card.json", "weights.safetensors"):
        shutil.copy(run / name, snapshot / name)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def on_scenes(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> Path:
    """A run with the classes of generated scenes, which the hub's cache has as well."""
    classes = cb.open_pairs(source, "test").classes
    assert classes is not None
    run, system = folder / "street", build("csknet", len(classes), **TINY)
    save_run(run, system, make_card(system, classes, "full-range", {}))
    in_cache(monkeypatch, folder / "cache", run)
    return run


def test_a_commit_that_was_fetched_is_loaded_without_a_network(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_cache(monkeypatch, tmp_path / "cache", run)
    infrared = np.random.default_rng(0).random((40, 56), np.float32)
    predictor = cb.load(f"hf://me/street@{COMMIT}", device="cpu")
    np.testing.assert_array_equal(
        predictor(infrared=infrared).labels, cb.load(run, device="cpu")(infrared=infrared).labels
    )
    assert COMMIT in predictor.origin
    with pytest.raises(WeightsError, match="cannot be had from the hub"):
        cb.load(f"hf://me/street@{'b' * 40}")
    arguments = ["evaluate", f"hf://me/street@{COMMIT}", "--data", "scenes,test=2,size=32x48"]
    assert "give --out" in refused(arguments, capsys)


def test_a_run_of_the_hub_is_scored_as_the_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "scenes,test=2,size=32x48"
    run = on_scenes(tmp_path, monkeypatch, source)
    for name, place in (("theirs", f"hf://me/street@{COMMIT}"), ("ours", str(run))):
        out = ["--out", str(tmp_path / name)]
        assert main(["evaluate", place, "--data", source, "--workers", "0", *out]) == 0, capsys.readouterr()
    theirs, ours = ((tmp_path / name / "evaluation.csv").read_text() for name in ("theirs", "ours"))
    assert theirs == ours


def test_a_run_of_the_hub_is_compared_as_the_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "scenes,test=3,size=32x48"
    run = on_scenes(tmp_path, monkeypatch, source)
    rows = {}
    for name, place in (("theirs", f"hf://me/street@{COMMIT}"), ("ours", str(run))):
        out = tmp_path / name
        arguments = [f"street={place}", f"alone={place}@infrared", "--data", source, "--examples", "0"]
        more = ["--workers", "0", "--replicates", "100", "--out", str(out)]
        assert main(["compare", *arguments, *more]) == 0, capsys.readouterr()
        rows[name] = (out / "comparison.csv").read_text()
    assert rows["theirs"] == rows["ours"]
    capsys.readouterr()
    said = refused(["compare", "hf://me/street", f"hf://me/street@{COMMIT}", "--data", source], capsys)
    assert "names no revision" in said
    said = refused(["compare", "hf://me/street@both", str(run), "--data", source], capsys)
    assert "hf://me/street names no revision" in said


def test_a_run_of_the_hub_is_described_taken_over_and_recalibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "scenes,train=4,val=2,test=2,size=32x48"
    run = on_scenes(tmp_path, monkeypatch, source)
    place, training = f"hf://me/street@{COMMIT}", ["--data", source, "--workers", "0", "--recipe.epochs", "1"]
    assert main(["info", place, "--size", "32x48"]) == 0
    theirs = capsys.readouterr().out
    assert main(["info", str(run), "--size", "32x48"]) == 0
    assert capsys.readouterr().out == theirs
    further, alone = tmp_path / "further", tmp_path / "alone"
    assert main(["recalibrate", place, "--data", source, "--batch_size", "2", "--out", str(alone)]) == 0
    told = json.loads((alone / "card.json").read_text())["training"]["recalibrated"]
    assert told["from"] == place
    network = [f"--network.{name}={value}" for name, value in TINY.items() if name != "encoder"]
    named = ["train", "csknet", "--encoder", str(TINY["encoder"]), *network]
    more = ["--start_from", place, "--recipe.batch_size", "2", "--hold_out", "0", "--out", str(further)]
    assert main([*named, *training, *more]) == 0, capsys.readouterr().err
    told = json.loads((further / "card.json").read_text())["training"]
    assert told["start_from"] == place
    assert told["origins"][0]["run"] == place


def test_only_the_card_and_the_weights_are_asked_for(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def download(repository: str, **given: Any) -> str:
        asked.append({"repository": repository, **given})
        return str(run)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert hub.fetch("hf://me/street@v1.0") == run
    assert asked == [
        {
            "repository": "me/street",
            "revision": "v1.0",
            "allow_patterns": ["card.json", "weights.safetensors"],
        }
    ]


def test_what_is_fetched_is_never_unpickled(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle in the weights' place is not opened, and its card's checksum does not fit it either."""
    ran: list[int] = []

    class Trap:
        def __reduce__(self) -> Any:
            return ran.append, (1,)

    torch.save({"trap": Trap()}, run / "weights.safetensors")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *given, **more: str(run))
    with pytest.raises(WeightsError):
        cb.load("hf://me/street@main")
    assert ran == []


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("hf://street@main", "write hf://OWNER/NAME@REVISION"),
        ("hf://me/../x@main", "is no place on the hub"),
        ("hf://me/street", "names no revision"),
        ("hf://me/street@", "is no place on the hub"),
    ],
)
def test_a_place_must_be_whole(place: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        cb.load(place)


def test_a_run_is_pushed_with_its_card(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "hub"

    class Api:
        """The hub, as a folder."""

        def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> None:
            assert (repository, private, exist_ok) == ("me/street", True, True)

        def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> Any:
            shutil.copytree(folder_path, there)
            return SimpleNamespace(oid=COMMIT)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    (run / "notes.txt").write_text("mine")
    fields = json.loads((run / "card.json").read_text())
    fields["encoder_origin"] = "/home/me/lite0.safetensors"
    fields["training"] |= {
        "data": "folder:/home/me/street,rig=/home/me/rig.json,visible=rgb/*.png",
        "start_from": "/home/me/runs/first",
        "checkpoint": {"teacher": {"reused": "C:\\Users\\me\\runs\\teacher"}, "csknet": {"epoch": 3}},
        "origins": [{"run": "hf://me/first@v1", "data": "mvseg:/home/me/MVSeg", "encoder_origin": None}],
    }
    (run / "card.json").write_text(json.dumps(fields))
    before = (run / "card.json").read_bytes()
    arguments = ["push", str(run), "me/street", "--private"]
    assert "give --license" in refused(arguments, capsys)
    assert "MVSeg" in refused([*arguments, "--license", "apache-2.0"], capsys)
    assert main([*arguments, "--license", "cc-by-nc-4.0"]) == 0
    assert f"cb.load('hf://me/street@{COMMIT}')" in capsys.readouterr().out
    assert {path.name for path in there.iterdir()} == {"README.md", "card.json", "weights.safetensors"}
    assert (there / "README.md").read_text(encoding="utf-8").startswith("---\nlibrary_name: crossband\n")
    assert (there / "weights.safetensors").read_bytes() == (run / "weights.safetensors").read_bytes()
    pushed = json.loads((there / "card.json").read_text())
    assert pushed["encoder_origin"] == "lite0.safetensors"
    assert pushed["training"] == fields["training"] | {
        "data": "folder:street,rig=rig.json,visible=rgb/*.png",
        "start_from": "first",
        "checkpoint": {"teacher": {"reused": "teacher"}, "csknet": {"epoch": 3}},
        "origins": [{"run": "hf://me/first@v1", "data": "mvseg:MVSeg", "encoder_origin": None}],
    }
    assert {name: value for name, value in pushed.items() if fields[name] != value}.keys() == {
        "encoder_origin",
        "training",
    }
    told = (there / "README.md").read_text(encoding="utf-8") + (there / "card.json").read_text()
    assert "/home/me" not in told
    assert "Users" not in told
    assert (run / "card.json").read_bytes() == before
    cb.load(there, device="cpu")


def test_damaged_weights_are_not_given_to_others(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: pytest.fail("the hub was asked"))
    weights = run / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    arguments = ["push", str(run), "me/street", "--license", "mit"]
    for more in ([], ["--to_folder", str(tmp_path / "look")]):
        assert "its checksum is not the card's" in refused([*arguments, *more], capsys)
    assert not (tmp_path / "look").exists()


def test_what_would_be_pushed_is_written_into_a_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = tmp_path / "sent"

    def upload(*, folder_path: str, **more: object) -> Any:
        shutil.copytree(folder_path, sent)
        return SimpleNamespace(oid=COMMIT)

    api = SimpleNamespace(create_repo=lambda *given, **more: None, upload_folder=upload)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    (run / "notes.txt").write_text("mine")
    arguments = ["push", str(run), "me/street", "--license", "mit"]
    assert main(arguments) == 0
    private = [*arguments, "--to_folder", str(tmp_path / "look"), "--private"]
    capsys.readouterr()
    assert "--private is for a repository" in refused(private, capsys)
    # Without the package, too.
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    there = tmp_path / "look"
    capsys.readouterr()
    assert main([*arguments, "--to_folder", str(there)]) == 0
    told = capsys.readouterr().out
    assert told == f"written: {there}/{{README.md,card.json,weights.safetensors}}; nothing was sent\n"
    files = {path.name: path.read_bytes() for path in sent.iterdir()}
    assert {path.name: path.read_bytes() for path in there.iterdir()} == files
    assert sorted(files) == ["README.md", "card.json", "weights.safetensors"]
    infrared = np.random.default_rng(0).random((40, 56), np.float32)
    np.testing.assert_array_equal(
        cb.load(there, device="cpu")(infrared=infrared).labels,
        cb.load(run, device="cpu")(infrared=infrared).labels,
    )
    before = (run / "card.json").read_bytes()
    for folder, held in ((run, "card.json"), (there, "README.md")):
        said = refused([*arguments, "--to_folder", str(folder)], capsys)
        assert said == f"{folder} is not empty, it holds '{held}': name a new folder"
    assert (run / "card.json").read_bytes() == before
    wrong = ["push", str(run), "street", "--license", "mit", "--to_folder", str(tmp_path / "new")]
    assert "OWNER/NAME" in refused(wrong, capsys)
    assert not (tmp_path / "new").exists()


def test_what_the_hub_refuses_is_said_in_a_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*given: object, **more: object) -> None:
        raise OSError("no such user\nand a page of HTML")

    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: SimpleNamespace(create_repo=refuse))
    arguments = ["push", str(run), "me/street", "--license", "mit"]
    assert refused(arguments, capsys) == "me/street: the hub refused, or cannot be reached (no such user)"
    assert "OWNER/NAME" in refused(["push", str(run), "street", "--license", "mit"], capsys)


def test_no_network_is_said_in_a_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the client below the hub's package, whose errors are its own."""
    error = huggingface_hub.errors.HTTPError

    def unreachable(*given: object, **more: object) -> None:
        raise error("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: SimpleNamespace(create_repo=unreachable))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    said = refused(["push", str(run), "me/street", "--license", "mit"], capsys)
    assert said == "me/street: the hub refused, or cannot be reached (Name or service not known)"
    images = ["--infrared", "b.png", "--out", "out"]
    said = refused(["predict", f"hf://me/street@{COMMIT}", *images], capsys)
    assert said == f"hf://me/street@{COMMIT} cannot be had from the hub (Name or service not known)"


def test_the_card_command_prints_or_writes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["card", str(run), "--license", "mit"]) == 0
    printed = capsys.readouterr().out
    assert main(["card", str(run), "--license", "mit", "--out", str(tmp_path / "README.md")]) == 0
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == printed
    capsys.readouterr()
    assert "needs no training" in refused(["card", "guided", "--license", "mit"], capsys)


@pytest.mark.parametrize(
    ("system", "variant", "title", "ours"),
    [
        ("csknet", "firm", "# csknet, variant firm with test_efficientnet\n", True),
        ("cddfuse", "light", "# cddfuse, variant light with test_efficientnet\n", True),
        ("mrfs", "as-published", "# mrfs, variant as-published with test_efficientnet\n", False),
        ("csknet", None, "# csknet with test_efficientnet\n", False),
    ],
)
def test_a_variant_of_ours_does_not_pass_for_the_papers_method(
    run: Path, system: str, variant: str | None, title: str, ours: bool
) -> None:
    text = model_card(changed(run, system=system, variant=variant), run, licence="mit")
    assert title in text
    assert (f"The variant `{variant}` is Crossband's own" in text) is ours


def test_a_recalibrated_network_says_of_what_it_is(run: Path) -> None:
    training = {"recalibrated": {"system": "csknet", "variant": "firm", "data": "folder:/home/me/x"}}
    text = model_card(changed(run, system="deeplabv3plus", training=training), run, licence="mit")
    assert "- recalibrated: the batch norms of csknet, variant firm\n" in text
    assert "/home/me" not in text


def test_a_system_that_only_fuses_has_a_card_without_classes(run: Path) -> None:
    card = changed(run, classes=None, system="cddfuse", network={})
    text = model_card(card, run, licence="mit")
    assert "pipeline_tag: image-to-image" in text
    assert "## Classes" not in text
    assert "result.fused" in text


def test_a_fuser_names_no_encoder_that_it_does_not_have(run: Path) -> None:
    light = cb.create("cddfuse", variant="light", width=4, heads=1)
    assert light.network_options["encoder"]
    text = model_card(make_card(light, None, "full-range", {}), run, licence="apache-2.0")
    assert "encoder" not in text
    assert "efficientnet" not in text
    assert "The network started from random weights, which have no terms." in text
    assert "It gives no labels, so that there is no mean IoU." in text
    with_classes = model_card(changed(run, system="cddfuse"), run, licence="apache-2.0")
    assert "# cddfuse with test_efficientnet" in with_classes
    assert "The encoder started from random weights" in with_classes


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in cb.list_systems()
        if (cls := system_class(name)).fuses and cls.trained_by is not None and not cls.needs_labels
    ],
)
def test_systems_whose_encoder_serves_classes_alone_are_listed(name: str) -> None:
    fuser, whole = (build(name, classes, **TINY) for classes in (None, CLASSES))
    assert whole.encoders()
    assert without_encoder(name, segments=False) == (not fuser.encoders())
    assert not without_encoder(name, segments=True)
