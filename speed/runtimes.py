"""Time of exported graphs on ONNX Runtime and OpenVINO, against plain PyTorch and plain graphs of it.

    python speed/runtimes.py                                   # CSK-Net and AMDANet B1, 480x640, one pair
    python speed/runtimes.py --threads 1 --clock processor     # on a machine that is busy otherwise
    python speed/runtimes.py --systems csknet --rounds 9

CSK-Net is held against `segmentation_models_pytorch.DeepLabV3Plus` in eager PyTorch, and against that
network as a graph of the same runtime: of one size, of a normalised image, with logits for output. Ours has
free sizes and goes from an image in [0, 1] to labels and confidence. AMDANet is held against its plain
formulas (`tests/references/reference_amdanet.py`). The run stops if labels of a float32 graph are not
PyTorch's.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring import Row, Settings, compare, markdown, milliseconds, time_in_turn

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


def calls(model: Any, arrays: Mapping[str, np.ndarray], threads: int, name: str) -> dict[str, Call]:
    """An ONNX graph on every runtime, by runtime and precision."""
    import onnx
    import onnxruntime
    import openvino

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
        graph = openvino.Core().read_model(str(path))
    for precision, hint in PRECISIONS.items():
        settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": str(threads)}
        compiled = openvino.Core().compile_model(graph, "CPU", settings)

        def run(compiled: Any = compiled) -> Mapping[str, np.ndarray]:
            results = compiled(dict(arrays))
            return {output.get_any_name(): results[output] for output in compiled.outputs}

        made[f"{name}, OpenVINO {precision}"] = run
    return made


def ours(system: System, bands: Bands, settings: Settings, threads: int, name: str) -> dict[str, Call]:
    """A system's graph on every runtime. Raises RuntimeError where float32 labels are not PyTorch's."""
    from crossband.export.deployable import LOGITS, Deployable
    from crossband.export.onnx_graph import onnx_graph, without_output
    from crossband.pairs.infrared_scaling import InfraredScaling
    from reference import make_batch

    batch = make_batch(settings)
    assert batch.visible is not None
    assert batch.infrared is not None
    arrays = {"visible": batch.visible.permute(0, 2, 3, 1).numpy(), "infrared": batch.infrared[:, 0].numpy()}
    arrays = {band: array for band, array in arrays.items() if bands in ("both", band)}
    types: Any = dict.fromkeys(arrays, "float32")
    deployable = Deployable(system, bands, InfraredScaling(), types)
    made = calls(without_output(onnx_graph(deployable), LOGITS), arrays, threads, name)
    labels = _labels(system, bands, settings)
    for what, call in made.items():
        share = float((call()["labels"] == labels).mean())
        print(f"{what}: {100 * share:.3f} % of the labels are PyTorch's", flush=True)
        if "bf16" not in what and share < LEAST:
            raise RuntimeError(f"{what} does not compute what PyTorch does")
    return made


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


def csknet_rows(settings: Settings, threads: int) -> list[Row]:
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
    runs |= calls(model, {model.graph.input[0].name: image.numpy()}, threads, "smp's own graph")
    runs["infrared alone, PyTorch"] = lambda: system(infrared=infrared)
    runs |= ours(system, "infrared", settings, threads, "infrared alone")
    runs |= ours(system, "both", settings, threads, "both bands")
    with torch.inference_mode():
        seconds = time_in_turn(runs, settings)
    rows = compare("CSK-Net", seconds, REFERENCE, milliseconds, "less")
    for runtime in ("ONNX Runtime", *(f"OpenVINO {precision}" for precision in PRECISIONS)):
        against = f"smp's own graph, {runtime}"
        alike = {name: seconds[name] for name in (against, f"infrared alone, {runtime}")}
        rows += compare("CSK-Net", alike, against, milliseconds, "less")
    _print_floor(plain, image, settings)
    return rows


def amdanet_rows(settings: Settings, threads: int) -> list[Row]:
    import torch

    from crossband.systems import create
    from reference import make_batch
    from reference_amdanet import ReferenceAMDANet

    torch.manual_seed(0)
    system = create("amdanet", classes=CLASSES, encoder="mit_b1", alignment_start="published").eval()
    plain = ReferenceAMDANet(CLASSES, "mit_b1").eval()
    plain.load_state_dict(system.state_dict())
    batch = make_batch(settings)
    runs: dict[str, Callable[[], object]] = {PLAIN: lambda: plain(batch.visible, batch.infrared)}
    runs["both bands, PyTorch"] = lambda: system(batch.visible, batch.infrared)
    runs |= ours(system, "both", settings, threads, "both bands")
    with torch.inference_mode():
        seconds = time_in_turn(runs, settings)
    return compare("AMDANet B1", seconds, PLAIN, milliseconds, "less")


def _print_floor(network: Any, image: Any, settings: Settings) -> None:
    """What the reference would take if it were one large product of matrices."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    flops = counter.get_total_flops()
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(2048, 2048, dtype=dtype)
        (seconds,) = time_in_turn({"product": lambda matrix=matrix: matrix @ matrix}, settings).values()
        rate = 2 * 2048**3 / min(seconds)
        print(
            f"floor of {REFERENCE} in {str(dtype).removeprefix('torch.')}: {flops / 1e9:.1f} GFLOPs at "
            f"{rate / 1e9:.0f} GFLOP/s of a matrix product are {milliseconds(flops / rate)}",
            flush=True,
        )


SYSTEMS: dict[str, Callable[[Settings, int], list[Row]]] = {"csknet": csknet_rows, "amdanet": amdanet_rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--encoder", default="efficientnet-b3", help="of CSK-Net and of the reference")
    parser.add_argument("--size", default="480x640", help="HEIGHTxWIDTH")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    options = parser.parse_args()
    # Before PyTorch starts: with threads that wait for each other, processor time would be waiting.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    height, width = (int(side) for side in options.size.split("x"))
    settings = Settings(options.encoder, (height, width), 1, "cpu", options.rounds, options.clock)
    rows = [row for name in options.systems for row in SYSTEMS[name](settings, options.threads)]
    print(markdown(rows))


if __name__ == "__main__":
    main()
