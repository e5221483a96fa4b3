"""A function of tensors as an ONNX graph: traced once by PyTorch, and translated as it is.

PyTorch's exporter traces a program a second time, to take operators apart that it has no translation for.
With free sizes a trace is most of an export's time, and only a handful of operators need it: those are
translated by `crossband.export.translations`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from crossband.export.translations import WholeOperators, translations

OPSET = 18
"""What PyTorch's exporter writes its graphs in; for any other they go through ONNX's converter, which has no
adapters for some of their operators. Every operator that is needed is in it."""


def traced(module: nn.Module, example: dict[str, Tensor], free: dict[str, dict[int, Any]]) -> Any:
    """The ``onnx.ModelProto`` of a module that takes and gives tensors by name.

    example: what it is traced with. free: the sizes that are, by input and axis. Inputs are named
    ``in/NAME``, outputs ``out/NAME``. Raises whatever PyTorch raises, of which there are many kinds.
    """
    with WholeOperators():
        program = _program(module, example, free)
    if _functional(program.graph):
        program.run_decompositions = lambda *_, **__: program
        try:
            return _translated(program, module, example, translations())
        except torch.onnx.errors.OnnxExporterError:
            # An operator without a translation, which is taken apart after all; the program is spoilt.
            pass
    return _translated(_program(module, example, free), module, example, None)


def _program(module: nn.Module, example: dict[str, Tensor], free: dict[str, dict[int, Any]]) -> Any:
    """The ``torch.export.ExportedProgram``."""
    # With free sizes the cache of operators' shapes costs more to fill than it saves in a network; a fusion
    # without weights repeats the same few operators, and gains by it.
    few = next(module.parameters(), None) is None
    with torch._dynamo.config.patch(fake_tensor_cache_enabled=few):
        program = torch.export.export(module, (example,), dynamic_shapes=(free,), strict=False)
    # Guards of the trace, such as that two sizes are one. Our check takes their place, and PyTorch 2.14
    # stumbles over them where an input gives nothing but its size.
    if hasattr(program, "_guards_code"):
        program._guards_code = []
    return program


def _translated(
    program: Any,
    module: nn.Module,
    example: dict[str, Tensor],
    table: dict[Callable[..., Any], Callable[..., Any]] | None,
) -> Any:
    from onnxscript import optimizer

    with _quickened(program.graph):
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[f"in/{name}" for name in example],
            output_names=[f"out/{name}" for name in module(example)],
            custom_translation_table=table,
            optimize=False,
            verbose=False,
        )
    assert made is not None
    # Of PyTorch's optimisation what the runtimes need. The rest is rules that ONNX Runtime has too, and the
    # search for places to apply them takes longer than the translation.
    optimizer.inline(made.model)
    optimizer.fold_constants(made.model, onnx_shape_inference=True)
    optimizer.remove_unused_nodes(made.model)
    return made.model_proto


@contextmanager
def _quickened(graph: torch.fx.Graph) -> Iterator[None]:
    """A block in which PyTorch's exporter leaves out what gives nothing.

    For each export it makes the table of its translations anew. And it goes through a program for operators
    of two types, computing every one once more, which takes half as long as the trace.
    """
    try:
        from torch.onnx._internal.exporter import _fx_passes, _registration
        from torch.onnx._internal.fx.passes.type_promotion import TypePromotionTable
    except ImportError:
        # Another PyTorch keeps them elsewhere: it exports all the same, more slowly.
        yield
        return
    passes: Any = _fx_passes
    registry: Any = _registration.ONNXRegistry

    def copied(opset_version: int = OPSET) -> Any:
        made = copy(_translations_of_pytorch(opset_version))
        made.functions = {operator: [*known] for operator, known in made.functions.items()}
        return made

    table = TypePromotionTable()
    promotes, makes = passes.insert_type_promotion_nodes, vars(registry)["from_torchlib"]
    _translations_of_pytorch(OPSET)
    if not any(_promotes(node, table) for node in graph.nodes):
        passes.insert_type_promotion_nodes = lambda _: None
    registry.from_torchlib = staticmethod(copied)
    try:
        yield
    finally:
        passes.insert_type_promotion_nodes = promotes
        registry.from_torchlib = makes


@cache
def _translations_of_pytorch(opset: int) -> Any:
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    return ONNXRegistry.from_torchlib(opset)


def _promotes(node: torch.fx.Node, table: Any) -> bool:
    """Whether an operator that has a rule for tensors of two types may compute in another than it is given.

    It does not if all are of one floating type, nor if all are of one whole type, with whole numbers, and the
    rule is that of sums.
    """
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    rule = table.get_rule(node.target.overloadpacket)
    if not rule:
        return False
    values = [given.meta.get("val") for given in node.all_input_nodes]
    types = {value.dtype for value in values if isinstance(value, Tensor)}
    if node.target is torch.ops.aten.where.self:
        types.discard(torch.bool)
    if len(types) > 1:
        return True
    if all(type.is_floating_point for type in types):
        return False
    numbers = [given for given in node.args if not isinstance(given, torch.fx.Node)]
    keeps = getattr(getattr(rule, "promotion_kind", None), "name", "") == "DEFAULT"
    return not keeps or torch.bool in types or any(type(number) is not int for number in numbers)


def _functional(graph: torch.fx.Graph) -> bool:
    """Replace operators that work in place by those that do not. False where one changes what others see."""
    order = {node: number for number, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        if not isinstance(node.target, torch._ops.OpOverload) or not node.target._schema.is_mutable:
            continue
        plain = _plain(node.target)
        seen_by = _sharing(node)
        if plain is None or seen_by is None:
            return False
        if any(order[user] > order[node] for sharer in seen_by for user in sharer.users):
            return False
        node.target = plain
    graph.lint()
    return True


def _plain(target: Any) -> Any:
    """The operator that gives what this one writes in place; None where there is none like it."""
    packet = getattr(torch.ops.aten, target._schema.name.removeprefix("aten::").removesuffix("_"), None)
    plain = getattr(packet, target._overloadname, None)
    if plain is None or len(plain._schema.arguments) != len(target._schema.arguments):
        return None
    return None if plain._schema.is_mutable else plain


def _sharing(node: torch.fx.Node) -> list[torch.fx.Node] | None:
    """The tensors that see what an operator writes in place, but for what it gives; None where one of them
    comes from outside."""
    changed: Any = node.args[0]
    while isinstance(changed, torch.fx.Node) and _is_view(changed):
        changed = changed.args[0]
    if not isinstance(changed, torch.fx.Node) or not isinstance(changed.target, torch._ops.OpOverload):
        return None
    found = [changed]
    for sharer in found:
        found += [user for user in sharer.users if _is_view(user) and user is not node]
    return found


def _is_view(node: torch.fx.Node) -> bool:
    """Whether what an operator gives may share its values with what it takes."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(value.alias_info is not None for value in schema.returns)
