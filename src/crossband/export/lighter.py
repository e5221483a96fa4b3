"""int8 and float16 forms of a graph: smaller, int8 often faster, at a loss that the check measures.

int8 is quantisation after training, from the ranges that real pairs give: per channel for weights. ONNX by
ONNX Runtime's quantisation into QDQ form, OpenVINO by NNCF (whose ONNX output ONNX Runtime does not take).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossband.errors import OptionError
from crossband.export.deployable import Deployable
from crossband.export.onnx_graph import quiet
from crossband.export.parity import levels_of
from crossband.pairs.base import Pair

FLOAT_ENDS = ("0/", "2/")
"""How nodes begin that prepare the images and finish the outputs: their values are levels, or counts."""


FEWEST = 64
"""Values that a constant has to be stored in float16."""


def half_onnx(model: Any) -> Any:
    """The graph with its weights stored in float16 and computed in float32, as OpenVINO does it too.

    A weight that float16 cannot hold, and constants of few values, stay as they are.
    """
    from onnx import TensorProto, helper, numpy_helper

    copy = type(model)()
    copy.CopyFrom(model)
    casts = []
    for tensor in copy.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < FEWEST or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}/half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}/single", to=TensorProto.FLOAT))
    nodes = [*casts, *copy.graph.node]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def int8_onnx(
    model: Any, deployable: Deployable, pairs: Sequence[Pair], folder: Path
) -> tuple[Any, tuple[str, ...]]:
    """The graph in QDQ form, convolutions and matrix products in int8; and the layers that stay float."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches: Iterator[Mapping[str, np.ndarray]] = calibration(deployable, pairs)

        def get_next(self) -> Mapping[str, np.ndarray] | None:
            return next(self.batches, None)

    plain, quantised = folder / "plain.onnx", folder / "int8.onnx"
    onnx.save(model, plain)
    layers = _last_layers(model)
    with quiet():
        quantize_static(
            str(plain),
            str(quantised),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            # Symmetric weights, which every runtime has; activations after ReLU have no use for a sign.
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            nodes_to_exclude=[*_ends(model), *layers],
        )
    return onnx.load(quantised), layers


def int8_openvino(graph: Any, deployable: Deployable, pairs: Sequence[Pair]) -> tuple[Any, tuple[str, ...]]:
    """The graph as NNCF quantises it, and the layers that stay float."""
    try:
        import nncf
    except ImportError as error:
        raise OptionError(
            "nncf is not installed, which makes int8 for OpenVINO: pip install 'crossband[export]'"
        ) from error
    batches = list(calibration(deployable, pairs))
    names = [operation.get_friendly_name() for operation in graph.get_ops()]
    ends = [name for name in names if name.startswith(FLOAT_ENDS)]
    first = _up_to_first_layers(graph)
    with quiet():
        made = nncf.quantize(
            graph,
            nncf.Dataset(batches),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(batches),
            ignored_scope=nncf.IgnoredScope(names=[*ends, *first], validate=False),
        )
    return made, tuple(name for name, kind in first.items() if kind in _LAYERS)


_LAYERS = ("Convolution", "GroupConvolution", "MatMul")


def _up_to_first_layers(graph: Any) -> dict[str, str]:
    """What stands between the prepared images and the first layers with weights, and these: kinds by name.

    OpenVINO (2026.4, CPU, free sizes) would move the quantisation of the first layer's input before the
    padding, and then pad by amounts that are none.
    """
    waiting = [operation for operation in graph.get_ops() if operation.get_friendly_name().startswith("0/")]
    found: dict[str, str] = {}
    while waiting:
        operation = waiting.pop()
        for output in operation.outputs():
            for target in output.get_target_inputs():
                follower = target.get_node()
                name = follower.get_friendly_name()
                if name.startswith(FLOAT_ENDS) or name in found or follower.get_type_name() == "Result":
                    continue
                found[name] = follower.get_type_name()
                if found[name] not in _LAYERS:
                    waiting.append(follower)
    return found


def calibration(deployable: Deployable, pairs: Sequence[Pair]) -> Iterator[Mapping[str, np.ndarray]]:
    """Each pair as the graph takes it, one at a time."""
    for pair in pairs:
        yield levels_of(pair, deployable.types, deployable.scaling)


def _ends(model: Any) -> list[str]:
    return [node.name for node in model.graph.node if node.name.startswith(FLOAT_ENDS)]


def _last_layers(model: Any) -> tuple[str, ...]:
    """The layers that make the classes and the picture: the last with weights before each output."""
    makers = {output: node for node in model.graph.node for output in node.output}
    weights = {tensor.name for tensor in model.graph.initializer}
    found: list[str] = []
    for output in model.graph.output:
        edges, seen = [output.name], set[str]()
        while edges:
            node = makers.get(edges.pop())
            if node is None or node.name in seen:
                continue
            seen.add(node.name)
            if node.op_type in ("Conv", "MatMul", "Gemm") and any(name in weights for name in node.input):
                found.append(node.name)
            else:
                edges.extend(node.input)
    return tuple(dict.fromkeys(found))
