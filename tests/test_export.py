"""Exported graphs: the answer of PyTorch, without PyTorch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.layers.conv2d_same import Conv2dSame

import crossband as cb
from command_line import refused
from crossband.cli import main
from crossband.errors import BandError, OptionError, WeightsError
from crossband.pairs.base import Classes, Pair, Pairs
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.writing import write_image
from crossband.runtime.describing import describe_exported
from crossband.runtime.exported import open_exported
from crossband.runtime.levels import infrared_levels, visible_levels
from crossband.systems import list_systems, network_options, system_class
from crossband.systems.base import System
from crossband.weights import make_card, save_run
from crossband.words import BAND_COMBINATIONS, BANDS
from tiny_systems import CLASSES, randomise_norms, tiny

pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

from crossband.export import exporting  # noqa: E402
from crossband.export.deployable import Deployable  # noqa: E402
from crossband.export.exporting import ExportOptions, export_run  # noqa: E402
from crossband.export.lighter import half_onnx  # noqa: E402
from crossband.export.onnx_graph import check_operators, example_arrays, onnx_graph  # noqa: E402
from crossband.export.parity import Parity  # noqa: E402
from crossband.export.torch_program import padded_in_whole_numbers  # noqa: E402

SIZES = (1, 64, 96), (3, 37, 51)
SCENES = "scenes,train=0,val=0,test=3,size=48x80"
NAMES = Classes(tuple(f"class {i}" for i in range(CLASSES)), tuple((i, 2 * i, 3 * i) for i in range(CLASSES)))


FEWEST: dict[str, dict[str, Any]] = {
    # The enhancement of a band is the attention from band to band, on the band itself.
    "amdanet": {"salient_enhancement": False},
    "cddfuse": {"detail_layers": 1},
}
"""Of each system what leaves out layers of which it has others."""


def ready(name: str, **options: Any) -> System:
    """A system with the fewest layers, since an export takes so long for each."""
    fewest = {"encoder": "test_resnet"} if "encoder" in network_options(name) else {}
    system = tiny(name, **{**fewest, **FEWEST.get(name, {}), **options})
    randomise_norms(system)
    return system.eval()


def types_of(bands: str) -> dict[Any, Any]:
    return {
        band: type for band, type in zip(BANDS, ("uint8", "uint16"), strict=True) if bands in ("both", band)
    }


def designed(name: str) -> Any:
    """The combination that a system was designed for, the widest first."""
    supports = tiny(name).supports
    return next(bands for bands in BAND_COMBINATIONS if supports.get(bands) == "designed")


def run_onnx(model: Any, arrays: dict[str, Any]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    made = session.run(None, {name: tensor.numpy() for name, tensor in arrays.items()})
    return dict(zip(names, made, strict=True))


def same(ours: dict[str, torch.Tensor], theirs: dict[str, np.ndarray]) -> None:
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        assert theirs[name].dtype == tensor.numpy().dtype
        assert theirs[name].shape == tensor.shape
        if name == "labels":
            assert (theirs[name] == tensor.numpy()).mean() > 0.9999
        elif name == "fused":
            assert (np.abs(theirs[name].astype(int) - tensor.numpy()) <= 1).mean() > 0.9999
        else:
            scale = max(1.0, float(tensor.abs().max()))
            np.testing.assert_allclose(theirs[name] / scale, tensor.numpy() / scale, atol=1e-4)


@cache
def graph_of(name: str) -> tuple[Deployable, Any]:
    """A system and its graph, which is made once for all tests."""
    bands = designed(name)
    deployable = Deployable(ready(name), bands, InfraredScaling(), types_of(bands))
    return deployable, onnx_graph(deployable)


AT_ONCE = "average", "csknet", "laplacian"
"""What `make test` exports: convolutions with shared weights, and two systems without any."""


@pytest.mark.parametrize(
    "name",
    [name if name in AT_ONCE else pytest.param(name, marks=pytest.mark.slow) for name in list_systems()],
)
def test_every_system_gives_the_same_answer_in_onnx_at_any_size(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trace_again(*_: Any, **__: Any) -> None:
        raise AssertionError("an operator has no translation")

    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", trace_again)
    deployable, model = graph_of(name)
    for value in (*model.graph.input, *model.graph.output):
        names = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        assert [name for name in names if isinstance(name, str)] == ["batch", "height", "width"]
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"TopK", "BatchNormalization", "Loop", "If"}
    for size in SIZES:
        arrays = example_arrays(deployable.types, size)
        with torch.inference_mode():
            same(deployable(**arrays), run_onnx(model, arrays))


RULES = ["full-range", "minmax", "percentile(2, 98)", "fixed(1000, 40000.5)"]


@pytest.mark.parametrize("rule", RULES)
def test_the_scaling_rule_is_that_of_reading(rule: str) -> None:
    scaling = InfraredScaling.parse(rule)
    deployable = Deployable(ready("average"), "infrared", scaling, {"infrared": "uint16"})
    levels = np.random.default_rng(1).integers(500, 60000, (2, 20, 30)).astype(np.uint16)
    wanted = np.stack([scaling(image) for image in levels])
    made = deployable.prepared(infrared=torch.from_numpy(levels))["infrared"][:, 0]
    np.testing.assert_allclose(made.numpy(), wanted, atol=1e-6)


def test_degrees_are_in_the_graph(tmp_path: Path) -> None:
    degrees = np.random.default_rng(0).uniform(-5, 45, (20, 30)).astype(np.float32)
    plain = cb.load("average", infrared_scaling="celsius(0, 40)")
    file = tmp_path / "degrees.onnx"
    found = export_run(plain.system, plain.card, file, ExportOptions(bands="infrared"))
    assert found["infrared"][0].fused == 1
    exported = cb.load(file)
    assert exported.system.graphs["infrared"][1].types == {"infrared": "float32"}
    ours, theirs = plain(infrared=degrees).fused, exported(infrared=degrees).fused
    assert ours is not None
    assert theirs is not None
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    with pytest.raises(OptionError, match="is of degrees, not of uint16"):
        Deployable(plain.system, "infrared", InfraredScaling("celsius", (0, 40)), {"infrared": "uint16"})


def test_percentiles_are_in_the_graph() -> None:
    scaling = InfraredScaling.parse("percentile(2, 98)")
    deployable = Deployable(ready("average"), "infrared", scaling, {"infrared": "uint16"})
    model = onnx_graph(deployable)
    for size in SIZES:
        arrays = example_arrays(deployable.types, size)
        with torch.inference_mode():
            same(deployable(**arrays), run_onnx(model, arrays))


def test_a_constant_image_becomes_zeros_as_numpy_does_it() -> None:
    deployable = Deployable(ready("average"), "infrared", InfraredScaling("minmax"), {"infrared": "uint8"})
    with torch.inference_mode():
        made = deployable(infrared=torch.full((1, 4, 5), 9, dtype=torch.uint8))
    assert not made["fused"].any()


@pytest.mark.parametrize(
    ("rule", "type"),
    [("full-range", "uint8"), ("full-range", "uint16"), ("fixed(10.5, 200.25)", "uint8")],
)
def test_levels_that_were_read_come_back(rule: str, type: Any) -> None:
    scaling = InfraredScaling.parse(rule)
    levels = np.arange(256, dtype=type).reshape(16, 16)
    back = infrared_levels(scaling(levels), scaling, type)
    inside = (levels > 10) & (levels < 200) if scaling.rule == "fixed" else np.full(levels.shape, True)
    assert (back == levels)[inside].all()
    assert np.abs(scaling(back) - scaling(levels)).max() < 1e-6


@pytest.mark.parametrize("rule", ["percentile(1, 99)", "percentile(5, 95)", "percentile(0, 90)"])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (4, 4), (31, 47)])
def test_levels_of_percentiles_give_what_was_read(rule: str, size: tuple[int, int]) -> None:
    """A percentile that lies between two pixels stays where it is, though the outer one was clipped."""
    scaling = InfraredScaling.parse(rule)
    images = np.random.default_rng(0).normal(7900, 50, (3, *size)).astype(np.uint16)
    read = np.stack([scaling(image) for image in images])
    levels = infrared_levels(read, scaling, "uint16")
    assert np.abs(np.stack([scaling(image) for image in levels]) - read).max() < 1e-4


def test_visible_levels_come_back() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert (visible_levels(levels.astype(np.float32) / 255, "uint8") == levels).all()


def test_limits_that_a_type_cannot_hold_are_refused() -> None:
    with pytest.raises(OptionError, match="float32"):
        Deployable(ready("average"), "infrared", InfraredScaling("fixed", (-20, 40)), {"infrared": "uint16"})


def graph(*nodes: Any) -> Any:
    return onnx.helper.make_model(onnx.helper.make_graph(list(nodes), "g", [], []))


@pytest.mark.parametrize(
    ("node", "word"),
    [
        (("Resize", ["x"], ["y"], {"antialias": 1}), "antialias"),
        (("BatchNormalization", ["x", "a", "b", "c", "d"], ["y"], {}), "batch norm"),
        (("Loop", ["x"], ["y"], {}), "Loop"),
        (("FusedConv", ["x"], ["y"], {"domain": "com.microsoft"}), "com.microsoft"),
    ],
)
def test_operators_that_a_runtime_computes_wrongly_are_refused(node: Any, word: str) -> None:
    kind, inputs, outputs, attributes = node
    with pytest.raises(OptionError, match=word):
        check_operators(graph(onnx.helper.make_node(kind, inputs, outputs, **attributes)))
    check_operators(graph(onnx.helper.make_node("Relu", ["x"], ["y"])))


@pytest.mark.parametrize(
    "fields",
    [{"agree": 0.9998}, {"logits": 2e-4}, {"logits": float("nan")}, {"fused": 0.99}, {"reliability": 0.01}],
)
def test_what_is_beyond_tolerance_fails(fields: dict[str, float]) -> None:
    assert Parity("onnxruntime", "cpu", "fp32", "x", **fields).failure() is not None  # type: ignore[arg-type]
    fine = Parity("onnxruntime", "cpu", "fp32", "x", agree=1.0, logits=1e-6, fused=1.0, reliability=1e-6)
    assert fine.failure() is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a tiny DeepLabV3+ on infrared."""
    folder = tmp_path_factory.mktemp("run")
    system = ready("deeplabv3plus", band="infrared")
    save_run(folder, system, make_card(system, NAMES, "full-range", {}))
    return folder


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    arguments = ["export", str(run), "--bands", "infrared", "--out", str(path), "--check", SCENES]
    assert main([*arguments, "--infrared_type", "uint8"]) == 0
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "one.png"
    write_image(path, np.random.default_rng(0).integers(0, 256, (45, 61)).astype(np.uint8))
    return path


def test_what_is_not_said_of_an_exported_file_is_not_asked_for(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "leave out --size 32x48" in refused(["info", str(exported), "--size", "32x48"], capsys)
    assert "leave out --classes" in refused(["info", str(exported), "--classes", "3"], capsys)


def test_scores_of_an_exported_file_need_a_folder(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "give --out" in refused(["evaluate", str(exported), "--data", "scenes"], capsys)


def test_an_exported_file_predicts_as_its_run(run: Path, exported: Path, image: Path) -> None:
    ours, theirs = cb.load(run)(infrared=image), cb.load(exported)(infrared=image)
    assert theirs.labels is not None
    assert (ours.labels == theirs.labels).mean() > 0.999
    assert theirs.classes == NAMES
    assert (theirs.bands, theirs.support) == (ours.bands, ours.support)
    np.testing.assert_allclose(ours.confidence, theirs.confidence, atol=1e-4)
    assert theirs.overlay().size == (61, 45)


def test_without_pytorch(exported: Path, image: Path, tmp_path: Path) -> None:
    """The library and the commands, where importing PyTorch or what stands on it fails."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "for name in ('torch', 'torchvision', 'timm', 'lightning', 'safetensors', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        "import crossband as cb\n"
        "from crossband.cli import main\n"
        "file, image, out = sys.argv[1:]\n"
        "result = cb.load(file)(infrared=image)\n"
        "assert result.labels.shape == (45, 61)\n"
        "assert main(['predict', file, '--infrared', image, '--out', out]) == 0\n"
        "assert main(['info', file]) == 0\n"
        "assert main(['info', 'csknet']) == 2\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(exported), str(image), str(tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "crossband[train]" in done.stderr
    assert "infrared uint8" in done.stdout
    assert (tmp_path / "out" / "label" / "one.png").is_file()


def test_pytorch_is_not_imported(exported: Path, image: Path) -> None:
    code = (
        "import sys, crossband as cb\n"
        f"cb.load({str(exported)!r})(infrared={str(image)!r})\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_example_needs_the_file_alone(exported: Path, image: Path, tmp_path: Path) -> None:
    example = Path(__file__).parents[1] / "examples" / "segment_onnxruntime.py"
    command = [sys.executable, "-I", str(example), str(exported), str(tmp_path), str(image)]
    subprocess.run(command, check=True, capture_output=True)
    labels = cb.load(exported)(infrared=image).labels
    with Image.open(tmp_path / "one.png") as made:
        assert (np.asarray(made) == labels).all()
        assert made.getpalette()[:6] == [*NAMES.palette[0], *NAMES.palette[1]]  # type: ignore[index]


def test_the_example_in_cpp_needs_the_file_alone(exported: Path, image: Path, tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++")
    openvino = pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    place = Path(openvino.__file__).parent
    libraries = [str(path) for path in (place / "libs").glob("libopenvino.so*")]
    if not libraries or not (place / "include" / "openvino" / "openvino.hpp").is_file():
        pytest.skip("this OpenVINO brings no headers for C++")
    source, program = Path(__file__).parents[1] / "examples" / "segment_openvino.cpp", tmp_path / "segment"
    linked = [*libraries, f"-Wl,-rpath,{place / 'libs'}"]
    command = [compiler, "-std=c++17", "-isystem", str(place / "include"), "-Wall", "-Werror", str(source)]
    subprocess.run([*command, *linked, "-o", str(program)], check=True)
    given, made = tmp_path / "one.pgm", tmp_path / "labels.pgm"
    with Image.open(image) as picture:
        picture.save(given)
    done = subprocess.run(
        [str(program), str(exported), str(given), str(made)], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[1 : 1 + CLASSES] == list(NAMES.names)
    assert main(["predict", str(exported), "--infrared", str(image), "--out", str(tmp_path)]) == 0
    with Image.open(made) as ours, Image.open(tmp_path / "label" / "one.png") as theirs:
        assert (np.asarray(ours) == np.asarray(theirs)).all()
    given.write_bytes(given.read_bytes()[:-1])
    assert subprocess.run([str(program), str(exported), str(given), str(made)]).returncode == 2


def test_the_card_is_in_the_file(exported: Path) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    assert metadata["class_names"].splitlines() == list(NAMES.names)
    assert metadata["palette"].split()[2] == "#020406"
    card = json.loads(metadata["crossband"])
    assert card["precision"] == "fp32"
    assert card["checked"]["onnxruntime"]["agree"] > 0.9999
    assert "\nband monitor: none of its own\n" in describe_exported(exported)


def test_bands_without_a_graph_are_refused(exported: Path, image: Path) -> None:
    with pytest.raises(BandError, match="no graph for visible alone"):
        cb.load(exported)(visible=np.zeros((8, 8, 3), np.uint8))


def test_arrays_of_another_type_are_refused(exported: Path) -> None:
    session = open_exported(exported).session("infrared")
    with pytest.raises(OptionError, match="uint8"):
        session.run({"infrared": np.zeros((1, 32, 32), np.float32)})


def test_a_device_that_is_not_there_is_refused(exported: Path) -> None:
    for device in ("xpu", "cuda:first"):
        with pytest.raises(OptionError, match=f"cannot compute on device {device}"):
            cb.load(exported, device=device)


def test_a_file_is_not_compiled(exported: Path) -> None:
    with pytest.raises(OptionError, match="not compiled by PyTorch"):
        cb.load(exported, runtime="compile")


def test_a_graph_of_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stranger.onnx"
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    made = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value], [result])
    onnx.save(
        onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), path
    )
    with pytest.raises(WeightsError, match="holds no card"):
        cb.load(path)


def test_a_damaged_file_is_one_line(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(exported.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot be run"):
        cb.load(path)


def test_damaged_files_of_openvino_are_told_apart(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = tmp_path / "model.xml"
    path.write_text("<net", encoding="utf-8")
    with pytest.raises(WeightsError, match=r"has its weights in .*model\.bin, which is not there"):
        cb.load(path)
    path.with_suffix(".bin").write_bytes(b"x")
    with pytest.raises(WeightsError, match="Unable to read the model"):
        cb.load(path)


def test_a_folder_in_the_place_of_a_file_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.onnx"
    out.mkdir()
    arguments = ["export", "laplacian", "--infrared_scaling", "full-range", "--bands", "both"]
    assert "is a folder" in refused([*arguments, "--out", str(out)], capsys)


def test_verify_holds_a_file_against_its_run(
    run: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", "scenes,train=0,val=0,test=3,size=48x80"]
    assert main(["verify", str(exported), str(run), *data]) == 0
    assert "labels agree on 100.0000 %" in capsys.readouterr().out
    other = tmp_path / "other"
    torch.manual_seed(1)
    system = ready("deeplabv3plus", band="infrared")
    with torch.no_grad():
        next(system.parameters()).add_(0.1)
    save_run(other, system, make_card(system, NAMES, "full-range", {}))
    assert main(["verify", str(exported), str(other), *data]) == 2
    capsys.readouterr()
    # A system that needs no training is created from what the file says of its own.
    for another in ("laplacian", "csknet"):
        assert main(["verify", str(exported), another, *data]) == 2
        assert "name the run that it was made of" in capsys.readouterr().err
    for option, value in (("--pairs", "0"), ("--least_agreement", "99.5")):
        assert option in refused(["verify", str(exported), str(run), *data, option, value], capsys)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--bands", "infrared", "--out", "x.xml"], "FILE.onnx"),
        (["--bands", "all", "--out", "x.onnx"], "folder"),
        (["--bands", "infrared", "--out", "x.onnx", "--precision", "bf16"], "OpenVINO"),
        (["--bands", "visible", "--out", "x.onnx"], "cannot run on visible"),
        (["--out", "x", "--least_agreement", "99"], "--least_agreement is a share from 0 to 1"),
        (["--out", "x", "--check_pairs", "0"], "--check_pairs must be at least 1, not 0"),
        (["--out", "x", "--precision", "int8", "--calibration_pairs", "0"], "--calibration_pairs must be"),
        (["--out", "x", "--precision", "int8", "--calibration_pairs", "9"], "--calibration_pairs is of"),
        (["--bands", "infrared", "--visible_type", "uint16", "--out", "x.onnx"], "--visible_type is of"),
        (["--bands", "visible", "--infrared_type", "uint8", "--out", "x.onnx"], "--infrared_type is of"),
        (["--out", "x", "--calibration", SCENES], "--calibration is for --precision int8, not fp32"),
    ],
)
def test_options_that_do_not_go_together(
    run: Path, arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "--check", SCENES, *arguments]) == 2
    assert word in capsys.readouterr().err


def test_infrared_of_16_bits_is_not_rounded_to_8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has said what a camera stores of which a system that needs no training knows nothing."""
    out, scaled = str(tmp_path / "average.onnx"), ["--infrared_scaling", "full-range", "--check_pairs", "1"]
    assert main(["export", "average", "--bands", "both", "--out", out, *scaled]) == 0
    random = np.random.default_rng(0)
    visible = random.integers(0, 256, (32, 48, 3)).astype(np.uint8)
    infrared = random.integers(0, 65536, (32, 48)).astype(np.uint16)
    whole, exported = cb.load("average", infrared_scaling="full-range"), cb.load(out)
    assert np.array_equal(*(each(visible, infrared).fused for each in (whole, exported)))
    narrow = [*scaled[2:], "--infrared_scaling", "fixed(0, 1000)", "--infrared_type", "uint8"]
    arguments = ["export", "average", "--bands", "both", "--out", out, *narrow]
    capsys.readouterr()
    assert "fixed(0, 1000) has no place in uint8, which holds 0 to 255" in refused(arguments, capsys)


def test_a_run_folder_stays_a_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = sorted(run.iterdir())
    assert "is a run folder" in refused(["export", str(run), "--check", SCENES, "--out", str(run)], capsys)
    assert sorted(run.iterdir()) == there


def test_a_bundle_answers_for_every_combination(tmp_path: Path) -> None:
    out = tmp_path / "average"
    arguments = [
        "export",
        "average",
        "--infrared_scaling",
        "full-range",
        "--check",
        SCENES,
        "--out",
        str(out),
    ]
    assert main(arguments) == 0
    predictor = cb.load(out)
    assert predictor.system.supports == dict(system_class("average").supports)
    visible = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    infrared = visible[..., 0]
    assert (predictor(visible=visible).fused == visible).all()
    fused = predictor(visible=visible, infrared=infrared).fused
    plain = cb.load("average", infrared_scaling="full-range")(visible=visible, infrared=infrared).fused
    assert fused is not None
    assert plain is not None
    assert np.abs(fused.astype(int) - plain).max() <= 1


def test_a_bundle_whose_files_were_made_at_two_times_is_refused(tmp_path: Path) -> None:
    """As an export that was killed leaves it, into the folder of an earlier one."""
    for folder, rule in (("out", "minmax"), ("later", "full-range")):
        plain = cb.load("average", infrared_scaling=rule)
        export_run(plain.system, plain.card, tmp_path / folder, ExportOptions())
    shutil.copy(tmp_path / "later" / "infrared.onnx", tmp_path / "out" / "infrared.onnx")
    image = np.arange(600, dtype=np.uint16).reshape(20, 30)
    predictor = cb.load(tmp_path / "out")
    assert predictor(visible=image).fused is not None
    with pytest.raises(WeightsError, match=r"infrared.onnx is not the graph that bundle.json .* tells of"):
        predictor(infrared=image)


def test_of_a_bundle_nothing_is_written_where_one_graph_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its second graph is made, and is not what PyTorch gives."""
    made: list[str] = []

    def graph(deployable: Deployable) -> Any:
        made.append(deployable.bands)
        ends = [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, ["pixels"])
            for name in ("image", "fused")
        ]
        node = onnx.helper.make_node("Identity", ["image"], ["fused"])
        return onnx.helper.make_model(onnx.helper.make_graph([node], "copy", ends[:1], ends[1:]))

    def compared(session: object, deployable: Deployable, *_: object, **__: object) -> Parity:
        return Parity("onnxruntime", "cpu", "fp32", SCENES, fused=1.0 if deployable.bands == "both" else 0.5)

    monkeypatch.setattr(exporting, "onnx_graph", graph)
    monkeypatch.setattr(exporting, "compare", compared)
    monkeypatch.setattr(exporting, "OnnxRuntimeSession", Path)
    monkeypatch.setattr(exporting, "OpenVinoSession", Path)
    system = ready("average")
    card = make_card(system, None, "full-range", {})
    out = tmp_path / "average"
    with pytest.raises(OptionError, match=r"^infrared on onnxruntime is not what .* nothing is written$"):
        export_run(system, card, out, ExportOptions(bands="all", check=SCENES))
    assert made == ["both", "infrared"]
    assert not out.exists()


def test_a_place_that_cannot_be_written_to_is_found_first(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / "model.onnx")
    assert main(["export", str(run), "--bands", "infrared", "--out", out, "--check", SCENES]) == 2
    told = capsys.readouterr()
    assert "cannot write" in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--check", "scenes,train=0,val=0,test=0,size=48x80"], "split test, has no pairs"),
        (["--check", "scenes,train=0,val=0,test=3,size=48x80", "--split", "val"], "split val, has no pairs"),
        (["--split", "nowhere"], "no split 'nowhere'"),
    ],
)
def test_a_check_without_pairs_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    out = str(tmp_path / "model.onnx")
    assert main(["export", str(run), "--bands", "infrared", "--out", out, *given]) == 2
    assert said in capsys.readouterr().err


def test_a_run_that_was_not_validated_is_checked_on_another_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system = ready("average")
    card = make_card(system, None, "full-range", {"data": "scenes,train=4,val=0,test=3,size=48x80"})
    found = export_run(system, card, tmp_path / "one.onnx", ExportOptions(bands="both"))
    assert found["both"][0].data.endswith(" test")


def test_pairs_of_the_run_that_are_gone_are_told_and_make_no_ranges(tmp_path: Path) -> None:
    system, out, said = ready("average"), tmp_path / "one.onnx", list[str]()
    card = make_card(system, None, "full-range", {"data": f"folder:{tmp_path / 'gone'}"})
    with pytest.raises(OptionError, match=r"int8 takes its ranges from pairs.*gone.*give --calibration"):
        export_run(system, card, out, ExportOptions(bands="both", precision="int8"), said.append)
    assert not out.exists()
    assert not said
    found = export_run(system, card, out, ExportOptions(bands="both"), said.append)
    assert found["both"][0].data == "generated scenes"
    assert "gone" in said[0]
    assert "generated scenes take their place" in said[0]


def predicts_as(run: Path, out: Path, image: Path, *options: str) -> float:
    """The share of pixels for which an exported file says what its run does."""
    arguments = ["export", str(run), "--bands", "infrared", "--out", str(out), "--check", SCENES]
    assert main([*arguments, *options]) == 0
    return float((cb.load(out)(infrared=image).labels == cb.load(run)(infrared=image).labels).mean())


@pytest.mark.slow
def test_a_file_of_less_precision_predicts_much_as_its_run(run: Path, image: Path, tmp_path: Path) -> None:
    assert predicts_as(run, tmp_path / "int8.onnx", image, "--precision", "int8") > 0.8


@pytest.mark.slow
def test_a_program_predicts_as_its_run(run: Path, image: Path, tmp_path: Path) -> None:
    assert predicts_as(run, tmp_path / "model.pt2", image, "--format", "torch-export") > 0.9999


def test_convolutions_that_pad_as_tensorflow_does_go_into_a_program(tmp_path: Path) -> None:
    """By how much, is known only when an image is there, and a file holds no fractions of its size."""
    layer = Conv2dSame(1, 1, 3, stride=2)
    free = ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
    with padded_in_whole_numbers():
        program = torch.export.export(layer, (torch.zeros(2, 1, 13, 16),), dynamic_shapes=free, strict=False)
    torch.export.save(program, tmp_path / "padded.pt2")
    again = torch.export.load(tmp_path / "padded.pt2").module()
    for size in ((8, 9), (31, 64)):
        image = torch.randn(2, 1, *size)
        torch.testing.assert_close(again(image), layer(image))


class MadePairs(Pairs):
    """Two labelled infrared images of 8-bit levels."""

    source, split, classes, bands = "made", "test", NAMES, ("infrared",)

    def __len__(self) -> int:
        return 2

    def name(self, index: int) -> str:
        return str(index)

    def __getitem__(self, index: int) -> Pair:
        random = np.random.default_rng(index)
        levels = random.integers(0, 256, (40, 50)).astype(np.float32) / 255
        return Pair(str(index), None, levels, random.integers(0, CLASSES, (40, 50)).astype(np.uint8))


def test_evaluate_takes_an_exported_file(run: Path, exported: Path) -> None:
    ours = cb.evaluate(cb.load(run, device="cpu").system, MadePairs(), bands=["infrared"])
    theirs = cb.evaluate(cb.load(exported).system, MadePairs(), bands=["infrared"])
    counts, others = (result.results["infrared"].confusion for result in (ours, theirs))
    assert int((counts - others).abs().sum()) <= 2
    with pytest.raises(OptionError, match="precision"):
        cb.evaluate(cb.load(exported).system, MadePairs(), bands=["infrared"], precision="bfloat16")


def test_other_classes_than_the_files_are_refused(exported: Path) -> None:
    pairs = cb.open_pairs(SCENES, "test")
    with pytest.raises(OptionError, match="classes"):
        cb.evaluate(cb.load(exported).system, pairs, bands=["infrared"])


def test_weights_in_float16_are_computed_in_float32() -> None:
    deployable, model = graph_of("csknet")
    half = half_onnx(model)
    assert half.ByteSize() < 0.6 * model.ByteSize()
    arrays = example_arrays(deployable.types, SIZES[1])
    with torch.inference_mode():
        wanted, made = deployable(**arrays), run_onnx(half, arrays)
    assert np.abs(made["logits"] - wanted["logits"].numpy()).max() < 0.02 * float(
        wanted["logits"].abs().max()
    )


@pytest.mark.parametrize("name", [pytest.param("deeplabv3plus", marks=pytest.mark.slow), "csknet", "average"])
def test_the_same_answer_in_openvino(name: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    options = {"band": "infrared"} if name == "deeplabv3plus" else {}
    system = ready(name, **options)
    folder = tmp_path / "run"
    folder.mkdir()
    classes = NAMES if system.segments else None
    save_run(folder, system, make_card(system, classes, "full-range", {}))
    bands = "both" if name == "average" else "infrared"
    out = tmp_path / "model.xml"
    arguments = ["export", str(folder), "--format", "openvino", "--bands", bands, "--out", str(out)]
    assert main([*arguments, "--check", SCENES]) == 0
    predictor = cb.load(out)
    assert predictor.runtime.session(bands).precision == "fp32"  # type: ignore[attr-defined]
    pair = cb.open_pairs("scenes,train=0,val=0,test=1,size=48x80", "test")[0]
    given = {band: getattr(pair, band) for band in BANDS if bands in ("both", band)}
    ours, theirs = cb.load(folder)(**given), predictor(**given)
    if system.segments:
        assert (ours.labels == theirs.labels).mean() > 0.99
    else:
        assert np.abs(ours.fused.astype(int) - theirs.fused).max() <= 1
