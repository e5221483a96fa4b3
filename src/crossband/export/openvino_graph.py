"""An ONNX graph of ours as OpenVINO's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crossband.errors import OptionError
from crossband.runtime.graph_card import GraphCard
from crossband.runtime.sessions import openvino_core


def openvino_graph(onnx_file: Path) -> Any:
    """The ``openvino.Model`` of an ONNX file. Raises OptionError where OpenVINO is not installed.

    It is read, not converted: OpenVINO's converter reports to its makers that it was called.
    """
    _openvino()
    return openvino_core().read_model(str(onnx_file))


def without_output(model: Any, name: str) -> Any:
    """The graph without one of its outputs; it is changed in place."""
    for result in model.get_results():
        if name in result.input_value(0).get_names():
            model.remove_result(result)
    return model


def save_openvino(model: Any, path: Path, card: GraphCard) -> None:
    """Write ``path`` (.xml), its weights beside it (.bin) and the card within, where ONNX files have it."""
    for key, value in card.metadata().items():
        model.set_rt_info(value, ["framework", key])
    _openvino().save_model(model, str(path), compress_to_fp16=card.precision == "fp16")


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise OptionError(
            "openvino is not installed, which this format needs: pip install 'crossband[export]'"
        ) from error
    return openvino
