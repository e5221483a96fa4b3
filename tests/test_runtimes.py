"""What computes a run: PyTorch, or graphs that its folder keeps, which give the same answer."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import crossband as cb
from crossband.cli import main
from crossband.errors import OptionError, WeightsError
from crossband.pairs.writing import write_image
from crossband.runtime.exported import Exported
from crossband.runtime.tiling import Tiling
from crossband.weights import make_card, save_run
from crossband.words import AUTO_EXPORTS_FROM
from tiny_systems import TINY, build, randomise_norms

pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

from crossband.export import exporting

CHECK = {"data": "scenes,train=0,val=3,test=2,size=48x80"}
"""Where the check of a graph finds its pairs."""


def save(folder: Path, name: str = "average", *, scaling: str = "minmax", **options: Any) -> Path:
    classes = cb.open_pairs(CHECK["data"], "test").classes if options else None
    torch.manual_seed(0)
    system = build(name, None if classes is None else len(classes), **options)
    randomise_norms(system)
    system.eval()
    save_run(folder, system, make_card(system, classes, scaling, CHECK))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save(tmp_path / "run")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose folder has the graph for both bands."""
    folder = save(tmp_path_factory.mktemp("made"))
    cb.load(folder, runtime="onnxruntime")
    return folder


@pytest.fixture
def unable(monkeypatch: pytest.MonkeyPatch) -> None:
    """No graph can be made."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OptionError("this cannot be traced")

    monkeypatch.setattr(exporting, "export_as_read", refuse)


def images() -> dict[str, np.ndarray]:
    """Levels between those of 8 bits, and floats."""
    random = np.random.default_rng(0)
    infrared = random.integers(3000, 50000, (37, 51)).astype(np.uint16)
    return {"visible": random.random((37, 51, 3), np.float32), "infrared": infrared}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_graphs_answer_as_pytorch_whatever_the_images_are(made: Path, runtime: Any) -> None:
    pytest.importorskip(runtime)
    ours, theirs = cb.load(made)(**images()), cb.load(made, runtime=runtime)(**images())
    assert ours.fused is not None
    assert theirs.fused is not None
    assert np.abs(ours.fused.astype(int) - theirs.fused).max() <= 1
    assert (ours.bands, ours.support) == (theirs.bands, theirs.support)


def test_a_graph_is_made_once(made: Path, unable: None) -> None:
    predictor = cb.load(made, runtime="onnxruntime")
    assert isinstance(predictor.system, Exported)
    assert predictor.card.infrared_scaling == "minmax"


def test_other_bands_are_made_when_they_are_asked_for(run: Path) -> None:
    predictor = cb.load(run, runtime="onnxruntime", expects={"infrared": 1})
    assert len(list((run / "graphs").glob("*.onnx"))) == 1
    assert predictor.system.supports == cb.load(run).system.supports
    visible = images()["visible"]
    fused, plain = predictor(visible=visible).fused, cb.load(run)(visible=visible).fused
    assert fused is not None
    assert plain is not None
    assert np.abs(fused.astype(int) - plain).max() <= 1
    assert len(list((run / "graphs").glob("*.onnx"))) == 2


def test_a_damaged_graph_is_made_again(ours: Path) -> None:
    (file,) = (ours / "graphs").glob("both-*.onnx")
    file.write_bytes(file.read_bytes()[:500])
    assert cb.load(ours, runtime="onnxruntime", expects={"both": 1})(**images()).fused is not None


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime", "auto"])
def test_weights_that_are_not_the_cards_are_refused_whatever_computes(tmp_path: Path, runtime: Any) -> None:
    run = save(tmp_path / "run", "deeplabv3plus", scaling="full-range", band="infrared", **TINY)
    cb.load(run, runtime="onnxruntime")
    weights = run / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(WeightsError, match="its checksum is not the card's"):
        cb.load(run, runtime=runtime, device="cpu")


def test_auto_takes_the_graphs_that_are_there(made: Path, unable: None) -> None:
    predictor = cb.load(made, runtime="auto", expects={"both": 1}, device="cpu")
    assert isinstance(predictor.system, Exported)
    assert str(predictor.chosen).startswith("runtime: o")


@pytest.fixture
def ours(made: Path, tmp_path: Path) -> Path:
    """A copy of `made` of one's own."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def test_auto_takes_the_runtime_that_was_faster(ours: Path, unable: None) -> None:
    pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    first = cb.load(ours, runtime="auto", expects={"both": 1}, device="cpu")
    (kept,) = (ours / "graphs").glob("both-*.speed.json")
    measured = json.loads(kept.read_text())
    assert set(measured["seconds"]) == {"onnxruntime", "openvino"}
    assert str(first.chosen).startswith(f"runtime: {min(measured['seconds'], key=measured['seconds'].get)} (")
    for faster, slower in (("onnxruntime", "openvino"), ("openvino", "onnxruntime")):
        # What was measured is not measured again.
        kept.write_text(json.dumps({**measured, "seconds": {faster: 0.25, slower: 0.75}}))
        predictor = cb.load(ours, runtime="auto", expects={"both": 1}, device="cpu")
        runtime: Any = predictor.runtime
        assert runtime.session("both").runtime == faster
        assert str(predictor.chosen).startswith(f"runtime: {faster} (")
        assert f"{slower} 0.75 s" in str(predictor.chosen)


def test_damaged_times_are_measured_again(ours: Path, unable: None) -> None:
    pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    for text in ("", "{}", "[1]", '{"threads": "1", "seconds": {"openvino": "x"}}'):
        for kept in (ours / "graphs").glob("both-*.speed.json"):
            kept.write_text(text)
        cb.load(ours, runtime="auto", expects={"both": 1}, device="cpu")
        (kept,) = (ours / "graphs").glob("both-*.speed.json")
        assert set(json.loads(kept.read_text())["seconds"]) == {"onnxruntime", "openvino"}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_device_that_is_not_there_is_refused_before_a_graph_is_made(run: Path, runtime: Any) -> None:
    pytest.importorskip(runtime)
    with pytest.raises(OptionError, match="cuda:9"):
        cb.load(run, runtime=runtime, device="cuda:9")
    assert not (run / "graphs").exists()


def test_graphs_that_go_in_the_order_they_came_leave_signals_alone(made: Path) -> None:
    """OpenVINO's own cores, one for each graph, would leave the thread a signal stack that is gone."""
    pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    script = (
        "import faulthandler, signal, sys\n"
        "faulthandler.enable()\n"
        "import crossband as cb\n"
        "first, second = (cb.load(sys.argv[1], runtime='openvino', device='cpu') for _ in range(2))\n"
        "del first\n"
        "del second\n"
        "signal.signal(signal.SIGINT, lambda *_: print('handled'))\n"
        "signal.raise_signal(signal.SIGINT)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, made], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "handled\n"), ended.stderr


def test_auto_makes_graphs_for_many_pairs_only(run: Path) -> None:
    few = cb.load(run, runtime="auto", expects={"both": AUTO_EXPORTS_FROM - 1}, device="cpu")
    assert not isinstance(few.system, Exported)
    assert str(few.chosen).startswith("runtime: torch (graphs are made for")
    assert not (run / "graphs").exists()
    many = cb.load(run, runtime="auto", expects={"both": AUTO_EXPORTS_FROM}, device="cpu")
    assert isinstance(many.system, Exported)


def test_auto_falls_back_and_does_not_try_again(
    run: Path, unable: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {"both": AUTO_EXPORTS_FROM}
    for why in ("this cannot be traced", "says why there is no graph"):
        predictor = cb.load(run, runtime="auto", expects=many, device="cpu")
        assert not isinstance(predictor.system, Exported)
        assert why in str(predictor.chosen)
        monkeypatch.undo()
    # Who asks for it by name gets another try.
    assert isinstance(cb.load(run, runtime="onnxruntime", expects=many).system, Exported)


def test_auto_is_pytorch_where_a_graph_has_no_such_thing(made: Path) -> None:
    lower = cb.load(made, runtime="auto", precision="bfloat16", device="cpu")
    assert not isinstance(lower.system, Exported)
    with pytest.raises(OptionError, match="precision"):
        cb.load(made, runtime="onnxruntime", precision="bfloat16")


def test_what_graphs_do_not_take_is_refused_before_one_is_made(run: Path, unable: None) -> None:
    for more in ({"precision": "bfloat16"}, {"tiling": Tiling(128, 32)}):
        with pytest.raises(OptionError, match="in float32 and without tiles"):
            cb.load(run, runtime="onnxruntime", **more)  # type: ignore[arg-type]


def test_what_has_no_folder_keeps_no_graphs() -> None:
    with pytest.raises(OptionError, match="crossband export average"):
        cb.load("average", runtime="onnxruntime")
    assert cb.load("average", runtime="auto").system.name == "average"


def test_a_folder_that_cannot_be_written_to_is_said(run: Path) -> None:
    (run / "graphs").touch()
    with pytest.raises(OptionError, match="graphs"):
        cb.load(run, runtime="onnxruntime")
    many = {"both": AUTO_EXPORTS_FROM}
    predictor = cb.load(run, runtime="auto", expects=many, device="cpu")
    assert not isinstance(predictor.system, Exported)
    assert str(predictor.chosen).startswith("runtime: torch (")


def test_a_command_runs_on_graphs_without_pytorch(made: Path, tmp_path: Path) -> None:
    for band, image in images().items():
        write_image(tmp_path / f"{band}.png", (image * 255).astype(np.uint8) if band == "visible" else image)
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "for name in ('torch', 'torchvision', 'timm', 'lightning', 'safetensors'):\n"
        "    sys.modules[name] = None\n"
        "from crossband.cli import main\n"
        "run, folder = sys.argv[1:]\n"
        "images = ['--visible', f'{folder}/visible.png', '--infrared', f'{folder}/infrared.png']\n"
        "assert main(['fuse', run, *images, '--out', f'{folder}/out', '--device', 'cpu']) == 0\n"
    )
    command = [sys.executable, str(script), str(made), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "held against PyTorch" in done.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 1


def test_graphs_of_a_run_of_one_band_are_for_the_band_that_it_takes_of_a_source(
    tmp_path: Path, unable: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = save(tmp_path / "run", "deeplabv3plus", scaling="full-range", band="infrared", **TINY)
    pairs = tmp_path / "pairs"
    assert main(["data", "export", CHECK["data"], "--out", str(pairs)]) == 0
    predict = ["predict", str(run), "--data", f"folder:{pairs}", "--split", "test", "--device", "cpu"]
    assert main([*predict, "--out", str(tmp_path / "out"), "--runtime", "onnxruntime"]) == 2
    assert "making the graph of" in (told := capsys.readouterr().err)
    assert "for infrared" in told
    assert main([*predict, "--out", str(tmp_path / "out"), "--runtime", "auto"]) == 0
    assert "runtime: torch (" in capsys.readouterr().err


def test_scores_are_those_of_pytorch(tmp_path: Path) -> None:
    run = save(tmp_path / "run", "deeplabv3plus", scaling="full-range", band="infrared", **TINY)
    counts = []
    for runtime in ("torch", "onnxruntime"):
        out = tmp_path / runtime
        arguments = ["evaluate", str(run), "--data", CHECK["data"], "--runtime", runtime, "--workers", "0"]
        assert main([*arguments, "--device", "cpu", "--out", str(out)]) == 0
        with np.load(out / "evaluation-pairs.npz") as kept:
            counts.append(kept[next(name for name in kept.files if "infrared" in name)].astype(int))
    assert np.abs(counts[0] - counts[1]).sum() <= 4


@pytest.mark.slow
def test_compiled_it_is_the_same(made: Path) -> None:
    ours, theirs = cb.load(made)(**images()), cb.load(made, runtime="compile", device="cpu")(**images())
    assert ours.fused is not None
    assert theirs.fused is not None
    assert np.abs(ours.fused.astype(int) - theirs.fused).max() <= 1
