"""A deployable system as an ONNX graph with free batch, height and width, and no surprises in it."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crossband.errors import OptionError, first_line
from crossband.export.deployable import Deployable
from crossband.export.tracing import traced
from crossband.runtime.graph_card import GraphCard
from crossband.words import Band, LevelType

MOST = 4096
"""The most of a network's multiples that a side has, which PyTorch wants to know."""

AXES = {0: "batch", 1: "height", 2: "width"}
EXAMPLE = 2, 75, 109
"""Batch, height and width of what a system is traced with. None is 1, which PyTorch would keep as a constant,
nor a multiple of a network's, which it would take to be of the size that the network gives."""


def example_arrays(types: dict[Any, LevelType], size: tuple[int, int, int] = EXAMPLE) -> dict[str, Tensor]:
    """Random levels of the types that a graph takes, by band."""
    generator = np.random.default_rng(0)
    arrays = {}
    for band, type in types.items():
        shape = (*size, 3) if band == "visible" else size
        values = generator.random(shape)
        highest = 1 if type == "float32" else np.iinfo(type).max
        arrays[band] = torch.from_numpy((values * highest).astype(type))
    return arrays


def onnx_graph(deployable: Deployable) -> Any:
    """An ``onnx.ModelProto`` of a system: constants folded, norms in their convolutions, axes named.

    It is traced in three parts, and joined: the sizes in the network are multiples of a free number, where
    those of a padded image would be formulas of roundings, which PyTorch takes minutes to reason about.
    Raises OptionError where the system cannot be traced, or the graph has an operator that a runtime is known
    to compute wrongly.
    """
    onnx, onnxruntime = _modules()
    arrays = example_arrays(deployable.types)
    with quiet(), tempfile.TemporaryDirectory() as folder, torch.no_grad():
        images = deployable.prepared(**arrays)
        made = deployable.network(**images)
        image = next(iter(arrays.values()))
        parts = [
            _traced(deployable, "prepared", arrays, free_levels(deployable.types)),
            _traced(deployable, "network", images, _free_images(images, deployable.system.multiple)),
            _traced(deployable, "finished", {"image": image, **made}, _free_outputs(image, made)),
        ]
        joined, folded = Path(folder) / "joined.onnx", Path(folder) / "folded.onnx"
        onnx.save(_single_convolutions(_joined(deployable, parts)), joined)
        # ONNX Runtime's basic rewrites change no value and keep to the standard's operators.
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(joined), options, providers=["CPUExecutionProvider"])
        model = onnx.load(folded)
    _spell_norms_out(model)
    _keep_to_the_standard(model)
    _name_axes(model)
    check_operators(model)
    return model


class _Part(nn.Module):
    """One of a deployable's three parts, as a module."""

    def __init__(self, deployable: Deployable, part: str):
        super().__init__()
        self.deployable = deployable
        self.part = part

    def forward(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        made = getattr(self.deployable, self.part)(**tensors)
        # One that goes through would have one name, as an input or as an output.
        through = {id(tensor) for tensor in tensors.values()}
        return {name: tensor.clone() if id(tensor) in through else tensor for name, tensor in made.items()}


def _traced(
    deployable: Deployable, part: str, example: dict[str, Tensor], free: dict[str, dict[int, Any]]
) -> Any:
    """The ONNX graph of a part. free: the sizes that are, by input and axis."""
    try:
        return traced(_Part(deployable, part), example, free)
    except Exception as error:
        # PyTorch raises many kinds, each of which says that the system's code has no such graph.
        raise OptionError(
            f"{deployable.system.name} cannot be traced for {deployable.bands} ({first_line(error)})"
        ) from error


def free_levels(types: Iterable[Band]) -> dict[str, dict[int, Any]]:
    """Which sizes of the levels are free: all but the three channels."""
    return {band: dict.fromkeys(AXES, torch.export.Dim.DYNAMIC) for band in types}


def _free_images(images: dict[str, Tensor], multiple: int) -> dict[str, dict[int, Any]]:
    if multiple == 1:
        return {band: dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC) for band in images}
    batch, height, width = (torch.export.Dim(name, min=1, max=MOST) for name in ("batch", "rows", "columns"))
    return {band: {0: batch, 2: multiple * height, 3: multiple * width} for band in images}


def _free_outputs(image: Tensor, made: dict[str, Tensor]) -> dict[str, dict[int, Any]]:
    free = torch.export.Dim.DYNAMIC
    return {"image": dict.fromkeys(AXES, free)} | {name: {0: free, 2: free, 3: free} for name in made}


def _joined(deployable: Deployable, parts: Sequence[Any]) -> Any:
    """The three graphs as one, whose inputs are the bands and whose outputs are those of the last."""
    import onnx

    whole = onnx.ModelProto()
    whole.CopyFrom(parts[-1])
    for field in ("node", "initializer", "input", "value_info"):
        del getattr(whole.graph, field)[:]
    whole.graph.input.extend(parts[0].graph.input)
    band = next(iter(deployable.types))
    # By the name of each part's inputs, what they are in the whole.
    comes_from: dict[str, str] = {"in/image": band, **{f"in/{name}": name for name in deployable.types}}
    for number, part in enumerate(parts):

        def renamed(edge: str, number: int = number, known: dict[str, str] = comes_from) -> str:
            return known.get(edge, f"{number}/{edge}" if edge else "")

        for initializer in part.graph.initializer:
            whole.graph.initializer.add().CopyFrom(initializer)
            whole.graph.initializer[-1].name = renamed(initializer.name)
        for node in part.graph.node:
            copy = whole.graph.node.add()
            copy.CopyFrom(node)
            copy.name = f"{number}/{node.name}"
            copy.input[:] = [renamed(edge) for edge in node.input]
            copy.output[:] = [renamed(edge) for edge in node.output]
        outputs = [output.name for output in part.graph.output]
        comes_from = {"in/image": str(band)} | {
            f"in/{edge.removeprefix('out/')}": renamed(edge) for edge in outputs
        }
    for value in (*whole.graph.input, *whole.graph.output):
        value.name = value.name.removeprefix("in/").removeprefix("out/")
    ends = {f"{len(parts) - 1}/out/{output.name}": output.name for output in whole.graph.output}
    for node in whole.graph.node:
        node.input[:] = [ends.get(edge, edge) for edge in node.input]
        node.output[:] = [ends.get(edge, edge) for edge in node.output]
    return whole


def without_output(model: Any, name: str) -> Any:
    """A copy of a graph that does not give one of its outputs."""
    copy = type(model)()
    copy.CopyFrom(model)
    kept = [output for output in copy.graph.output if output.name != name]
    del copy.graph.output[:]
    copy.graph.output.extend(kept)
    return copy


def with_card(model: Any, card: GraphCard) -> Any:
    """A copy of a graph with its card among the metadata."""
    copy = type(model)()
    copy.CopyFrom(model)
    del copy.metadata_props[:]
    for key, value in card.metadata().items():
        entry = copy.metadata_props.add()
        entry.key, entry.value = key, value
    copy.producer_name, copy.producer_version = "crossband", card.crossband
    return copy


def output_names(model: Any) -> list[str]:
    return [output.name for output in model.graph.output]


def check_operators(model: Any) -> None:
    """Raise OptionError for an operator that ONNX Runtime or OpenVINO computes wrongly with free sizes.

    Pooling to a grid of more than one bin: wrong, or it crashes, in both. Resize with antialias: OpenVINO is
    off by 0.38. TopK and BatchNormalization in a network are constants that were not folded; only the
    percentiles of a scaling rule need a TopK.
    """
    for node in model.graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        wrong = None
        if node.domain not in ("", "ai.onnx"):
            wrong = f"operator {node.op_type} of {node.domain}, which the standard has not"
        elif node.op_type == "Resize" and "antialias" in attributes and attributes["antialias"].i:
            wrong = "a resize with antialias"
        elif node.op_type == "BatchNormalization":
            wrong = "a batch norm that was not folded"
        elif _of_grid(node) or node.op_type in ("Loop", "Scan", "If"):
            wrong = f"{node.op_type} ({node.name}), as of pooling to a grid"
        if wrong is not None:
            raise OptionError(f"the graph has {wrong}: no runtime is trusted with it, and it is not written")


def _of_grid(node: Any) -> bool:
    """Whether a node is of what PyTorch takes an adaptive pooling to more than one bin apart into."""
    return "adaptive_avg_pool" in node.name and node.op_type not in ("GlobalAveragePool", "ReduceMean")


def _single_convolutions(model: Any) -> Any:
    """The graph with its float64 convolutions in float32, which ONNX Runtime has; their values go on in
    float64. The check of the graph says whether that is enough."""
    from onnx import TensorProto, helper, shape_inference

    casts = {a.i for node in model.graph.node if node.op_type == "Cast" for a in node.attribute}
    if TensorProto.DOUBLE not in casts:
        return model
    known = shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in known.value_info}
    types |= {tensor.name: tensor.data_type for tensor in known.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type != "Conv" or types.get(node.input[1]) != TensorProto.DOUBLE:
            nodes.append(node)
            continue
        inputs, outcome = list(node.input), node.output[0]
        for place, name in enumerate(inputs):
            single = f"{node.name}/single/{place}"
            nodes.append(helper.make_node("Cast", [name], [single], f"{single}/cast", to=TensorProto.FLOAT))
            node.input[place] = single
        node.output[0] = f"{outcome}/single"
        cast = helper.make_node(
            "Cast", [node.output[0]], [outcome], f"{node.name}/double", to=TensorProto.DOUBLE
        )
        nodes += [node, cast]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _spell_norms_out(model: Any) -> None:
    """Batch norms that no convolution could take in, as a product and a sum with constants."""
    from onnx import helper, numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type != "BatchNormalization":
            nodes.append(node)
            continue
        scale, shift, mean, variance = (
            numpy_helper.to_array(constants[name]).astype(np.float64) for name in node.input[1:5]
        )
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        factor = scale / np.sqrt(variance + epsilon)
        for name, values in (("factor", factor), ("sum", shift - mean * factor)):
            tensor = numpy_helper.from_array(
                values.astype(np.float32)[:, None, None], f"{node.output[0]}/{name}"
            )
            model.graph.initializer.append(tensor)
        scaled = f"{node.output[0]}/scaled"
        nodes += [
            helper.make_node(
                "Mul", [node.input[0], f"{node.output[0]}/factor"], [scaled], f"{node.name}/mul"
            ),
            helper.make_node("Add", [scaled, f"{node.output[0]}/sum"], [node.output[0]], f"{node.name}/add"),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _keep_to_the_standard(model: Any) -> None:
    """ONNX Runtime names all domains that it knows; the graph uses one."""
    kept = [domain for domain in model.opset_import if domain.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _name_axes(model: Any) -> None:
    """One symbol for the height of both bands and of all outputs; PyTorch writes formulas for outputs."""
    for value in (*model.graph.input, *model.graph.output):
        places: Sequence[int] = (0, 2, 3) if value.name == "logits" else (0, 1, 2)
        shape = value.type.tensor_type.shape
        for place, name in zip(places, AXES.values(), strict=True):
            shape.dim[place].dim_param = name
    # Formulas of what is between, in symbols that are gone.
    del model.graph.value_info[:]


def _modules() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise OptionError(
            f"{error.name} is not installed, which the export needs: pip install 'crossband[export]'"
        ) from error
    return onnx, onnxruntime


@contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters say of their own workings: what matters ends in an error."""
    loggers = [logging.getLogger(name) for name in ("", "onnxscript", "onnx_ir", "torch", "nncf")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
