"""Time of exported graphs on ONNX Runtime and OpenVINO, against plain PyTorch and plain graphs of it.

    python speed/runtimes.py                                   # CSK-Net and AMDANet B1, 480x640, one pair
    python speed/runtimes.py --threads 1 --clock processor     # on a machine that is busy otherwise
    python speed/runtimes.py --systems csknet --rounds 9
    python speed/runtimes.py --systems amdanet --amdanet mit_b1 mit_b4

CSK-Net is held against `segmentation_models_pytorch.DeepLabV3Plus` in eager PyTorch, and against that
network as a graph of the same runtime: of one size, of a normalised image, with logits for output. Ours has
free sizes and goes from an image in [0, 1] to labels and confidence. AMDANet is held against its plain
formulas (`tests/references/reference_amdanet.py`), in time and in peak memory, each in a process of its
own that opens the graph and runs it twice. The run stops if labels of a float32 graph are not
PyTorch's.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring import (
    Rates,
    Row,
    Settings,
    compare,
    in_child,
    markdown,
    measure_rates,
    megabytes,
    milliseconds,
    peak_resident,
    time_in_turn,
)

if TYPE_CHECKING:
    import numpy as np

    from crossband.systems.base import System
    from crossband.words import Bands

Call = Callable[[], "Mapping[str, np.ndarray]"]
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
LEAST = 0.999
"""Share of labels that must be PyTorch's, of noise through random weights."""
CLASSES = 9
REFERENCE, PLAIN = "smp DeepLabV3Plus", "plain formulas"


def plain_calls(model: Any, arrays: Mapping[str, np.ndarray], threads: int, name: str) -> dict[str, Call]:
    """A plain ONNX graph on every runtime with the runtime's own settings, by runtime and precision."""
    import onnx
    import onnxruntime

    from crossband.runtime.sessions import openvino_core

    core = openvino_core()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    made: dict[str, Call] = {
        f"{name}, ONNX Runtime": lambda: dict(zip(outputs, session.run(None, dict(arrays)), strict=True))
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save(model, path)
        graph = core.read_model(str(path))
    for precision, hint in PRECISIONS.items():
        settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": str(threads)}
        compiled = core.compile_model(graph, "CPU", settings)

        def run(compiled: Any = compiled) -> Mapping[str, np.ndarray]:
            results = compiled(dict(arrays))
            return {output.get_any_name(): results[output] for output in compiled.outputs}

        made[f"{name}, OpenVINO {precision}"] = run
    return made


def write_graphs(system: System, bands: Bands, folder: Path) -> dict[str, Path]:
    """A system's graph of float images as `crossband export` writes it, by precision; unchecked."""
    import onnx

    from crossband.export.deployable import LOGITS, Deployable
    from crossband.export.onnx_graph import onnx_graph, with_card, without_output
    from crossband.pairs.base import Classes
    from crossband.pairs.folder import default_palette
    from crossband.pairs.infrared_scaling import InfraredScaling
    from crossband.runtime.graph_card import GraphCard
    from crossband.weights import make_card
    from crossband.words import BANDS

    types: Any = {band: "float32" for band in BANDS if bands in ("both", band)}
    deployable = Deployable(system, bands, InfraredScaling(), types)
    model = without_output(onnx_graph(deployable), LOGITS)
    names = tuple(f"class {index}" for index in range(CLASSES))
    run = make_card(system, Classes(names, default_palette(CLASSES)), str(InfraredScaling()), {})
    paths = {}
    for precision in PRECISIONS:
        card = GraphCard(
            run=run,
            bands=bands,
            support=system.supports[bands],
            types=types,
            outputs=deployable.outputs,
            format_of_file="onnx",
            precision="fp32" if precision == "fp32" else "bf16",
        )
        paths[precision] = folder / f"{bands}-{precision}.onnx"
        onnx.save(with_card(model, card), paths[precision])
    return paths


def arrays_of(settings: Settings, bands: Bands) -> dict[str, np.ndarray]:
    """The noise of `reference.make_batch` as a graph of float images takes it."""
    from reference import make_batch

    batch = make_batch(settings)
    assert batch.visible is not None
    assert batch.infrared is not None
    arrays = {"visible": batch.visible.permute(0, 2, 3, 1).numpy(), "infrared": batch.infrared[:, 0].numpy()}
    return {band: array for band, array in arrays.items() if bands in ("both", band)}


def ours(
    system: System, bands: Bands, settings: Settings, threads: int, name: str, folder: Path
) -> dict[str, Call]:
    """A system's graph on every runtime. Raises RuntimeError where float32 labels are not PyTorch's."""
    from crossband.runtime.sessions import OnnxRuntimeSession, OpenVinoSession

    paths, arrays = write_graphs(system, bands, folder), arrays_of(settings, bands)
    session = OnnxRuntimeSession(paths["fp32"], threads=threads)
    made: dict[str, Call] = {f"{name}, ONNX Runtime": lambda: session.run(arrays)}
    for precision, path in paths.items():
        compiled = OpenVinoSession(path, threads=threads)
        made[f"{name}, OpenVINO {precision}"] = lambda compiled=compiled: compiled.run(arrays)
    labels = _labels(system, bands, settings)
    for what, call in made.items():
        share = float((call()["labels"] == labels).mean())
        print(f"{what}: {100 * share:.3f} % of the labels are PyTorch's", flush=True)
        if "bf16" not in what and share < LEAST:
            raise RuntimeError(f"{what} does not compute what PyTorch does")
    return made


def floors_of(
    system: System, bands: Bands, settings: Settings, names: Iterable[str], rates: Rates
) -> dict[str, float]:
    """Seconds that a system's operations take at least in each of some ways to run it."""
    from crossband.info import count_flops

    operations = settings.batch_size * count_flops(system, bands, settings.size)
    return {
        name: rates.of_operations(operations, "bfloat16" if "bf16" in name else "float32") for name in names
    }


def _labels(system: System, bands: Bands, settings: Settings) -> np.ndarray:
    import torch

    from reference import make_batch

    batch = make_batch(settings)
    with torch.inference_mode():
        output = system(
            *(getattr(batch, b) if bands in ("both", b) else None for b in ("visible", "infrared"))
        )
    return output.logits.argmax(dim=1).numpy()


def plain_graph(network: Any, image: Any) -> Any:
    """A network as PyTorch's exporter writes it for one size."""
    import torch

    from crossband.export.onnx_graph import quiet

    with quiet(), torch.no_grad():
        program = torch.onnx.export(network, (image,), dynamo=True, opset_version=18, verbose=False)
    assert program is not None
    return program.model_proto


def csknet_rows(settings: Settings, threads: int, rates: Rates) -> list[Row]:
    import torch

    from crossband.systems import create
    from reference import make_batch, normalised, plain_network

    torch.manual_seed(0)
    system = create("csknet", classes=CLASSES, encoder=settings.encoder).eval()
    plain = plain_network(settings).eval()
    infrared = make_batch(settings).infrared
    assert infrared is not None
    image = normalised(infrared, settings.encoder)
    model = plain_graph(plain, image)
    runs: dict[str, Callable[[], object]] = {REFERENCE: lambda: plain(image)}
    runs |= plain_calls(model, {model.graph.input[0].name: image.numpy()}, threads, "smp's own graph")
    runs["infrared alone, PyTorch"] = lambda: system(infrared=infrared)
    with tempfile.TemporaryDirectory() as folder:
        alone = ours(system, "infrared", settings, threads, "infrared alone", Path(folder))
        both = ours(system, "both", settings, threads, "both bands", Path(folder))
    runs |= alone | both
    floors = floors_of(system, "infrared", settings, [name for name in runs if name not in both], rates)
    floors |= floors_of(system, "both", settings, both, rates)
    with torch.inference_mode():
        seconds = time_in_turn(runs, settings)
    rows = compare("CSK-Net", seconds, REFERENCE, milliseconds, "less", floors)
    for runtime in ("ONNX Runtime", *(f"OpenVINO {precision}" for precision in PRECISIONS)):
        against = f"smp's own graph, {runtime}"
        alike = {name: seconds[name] for name in (against, f"infrared alone, {runtime}")}
        rows += compare("CSK-Net", alike, against, milliseconds, "less", floors)
    return rows


def amdanet_rows(settings: Settings, threads: int, rates: Rates) -> list[Row]:
    """settings: its encoder is AMDANet's."""
    import torch

    from amdanet import OURS, pass_memory
    from amdanet import REFERENCE as PLAIN_NETWORK
    from crossband.systems import create
    from reference import make_batch
    from reference_amdanet import ReferenceAMDANet

    torch.manual_seed(0)
    name = f"AMDANet {settings.encoder}"
    system = create("amdanet", classes=CLASSES, encoder=settings.encoder, alignment_start="published").eval()
    plain = ReferenceAMDANet(CLASSES, settings.encoder).eval()
    plain.load_state_dict(system.state_dict())
    batch = make_batch(settings)
    runs: dict[str, Callable[[], object]] = {PLAIN: lambda: plain(batch.visible, batch.infrared)}
    runs["PyTorch"] = lambda: system(batch.visible, batch.infrared)
    with tempfile.TemporaryDirectory() as folder:
        runs |= {
            call.removeprefix("both bands, "): run
            for call, run in ours(system, "both", settings, threads, "both bands", Path(folder)).items()
        }
        with torch.inference_mode():
            seconds = time_in_turn(runs, settings)
        floors = floors_of(system, "both", settings, runs, rates)
        rows = compare(name, seconds, PLAIN, milliseconds, "less", floors)
        peaks = {
            PLAIN: [in_child(pass_memory, settings, "inference", PLAIN_NETWORK)],
            "PyTorch": [in_child(pass_memory, settings, "inference", OURS)],
        }
        for runtime in ("onnxruntime", "openvino"):
            graph = Path(folder) / "both-fp32.onnx"
            peaks[f"{runtime} fp32"] = [in_child(graph_memory, graph, runtime, settings.size, threads)]
    return rows + compare(f"memory of {name}", peaks, PLAIN, megabytes, "less")


def graph_memory(path: Path, runtime: Any, size: tuple[int, int], threads: int) -> float:
    """Peak megabytes of opening a graph of both bands and running it twice. Call it in a fresh process."""
    import importlib

    import numpy as np

    from crossband.runtime.sessions import open_session

    importlib.import_module(runtime)
    random = np.random.default_rng(0)
    arrays = {
        "visible": random.random((1, *size, 3), np.float32),
        "infrared": random.random((1, *size), np.float32),
    }
    before = peak_resident()
    session = open_session(path, runtime=runtime, threads=threads)
    for _ in range(2):
        session.run(arrays)
    return peak_resident() - before


SYSTEMS: dict[str, Callable[[Settings, int, Rates], list[Row]]] = {
    "csknet": csknet_rows,
    "amdanet": amdanet_rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--encoder", default="efficientnet-b3", help="of CSK-Net and of the reference")
    parser.add_argument("--amdanet", nargs="+", default=["mit_b1"], metavar="ENCODER", help="AMDANet's")
    parser.add_argument("--size", default="480x640", help="HEIGHTxWIDTH")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    options = parser.parse_args()
    # Before PyTorch starts: with threads that wait for each other, processor time would be waiting.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    height, width = (int(side) for side in options.size.split("x"))
    settings = Settings(options.encoder, (height, width), 1, "cpu", options.rounds, options.clock)
    rates = measure_rates(settings, ("float32", "bfloat16"))
    print(rates, flush=True)
    encoders = {"csknet": [options.encoder], "amdanet": options.amdanet}
    rows = [
        row
        for name in options.systems
        for encoder in encoders[name]
        for row in SYSTEMS[name](replace(settings, encoder=encoder), options.threads, rates)
    ]
    print(markdown(rows))


if __name__ == "__main__":
    main()
