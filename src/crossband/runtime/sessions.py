"""Exported files, run by ONNX Runtime or OpenVINO: arrays by name in, arrays by name out.

A runtime takes what it is given, converts types without a word, and chooses its own precision and device;
so types are checked here, and precision and device are named.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import inspect
import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from crossband.errors import OptionError, WeightsError, first_line
from crossband.runtime.graph_card import KEY, GraphCard, read_graph_card
from crossband.words import ExportPrecision

Arrays = dict[str, np.ndarray]
RuntimeName = Literal["onnxruntime", "openvino", "torch"]

SUFFIXES: dict[str, RuntimeName] = {".onnx": "onnxruntime", ".xml": "openvino", ".pt2": "torch"}
"""Of exported files, and the runtime that is meant for them."""


class Session(Protocol):
    """A graph that is ready to run. runtime: its name. device, precision: where and how it computes."""

    runtime: str
    device: str
    precision: ExportPrecision
    card: GraphCard

    def run(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """The graph's outputs by name."""


class OnnxRuntimeSession:
    """An ONNX file on ONNX Runtime.

    device: "cpu", or "cuda", which is refused where ONNX Runtime was not built for it. threads: None takes
    OMP_NUM_THREADS, and all cores where that is not set.
    Raises WeightsError for a file that cannot be used, OptionError for a device that is not there.
    """

    runtime = "onnxruntime"
    _PROVIDERS: ClassVar[dict[str, str]] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

    def __init__(self, path: Path | bytes, *, device: str = "cpu", threads: int | None = None):
        onnxruntime = _module("onnxruntime", "runtime")
        self.check_device(device)
        kind, _, number = device.partition(":")
        provider = self._PROVIDERS[kind]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Its plan of a size's memory is one block more, beside those that the first image of a size took.
        options.enable_mem_pattern = False
        options.intra_op_num_threads = _threads(threads)
        settings: dict[str, Any] = {"device_id": int(number)} if number else {}
        source = path if isinstance(path, bytes) else str(path)
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=[(provider, settings)])
        # Its errors have no common type of their own.
        except Exception as error:
            raise WeightsError(
                f"{_name(path)} cannot be run by ONNX Runtime ({first_line(error)})"
            ) from error
        if self._session.get_providers()[0] != provider:
            raise OptionError(
                f"ONNX Runtime took {self._session.get_providers()[0]} where {provider} was asked for: "
                "its drivers are missing or do not fit"
            )
        _give_back_memory()
        self.device = device
        self.card = read_graph_card(self._session.get_modelmeta().custom_metadata_map, _name(path))
        # What the file stores is what ONNX Runtime computes in.
        self.precision = self.card.precision
        self._outputs = [output.name for output in self._session.get_outputs()]

    @classmethod
    def check_device(cls, device: str) -> None:
        """Raise OptionError for a device that ONNX Runtime does not have here."""
        there = _module("onnxruntime", "runtime").get_available_providers()
        kind, _, number = device.partition(":")
        if cls._PROVIDERS.get(kind) not in there or number.strip("0123456789"):
            raise OptionError(
                f"ONNX Runtime cannot compute on device {device} here: it has {', '.join(there)}"
            )

    def run(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        check_arrays(self.card, arrays)
        return dict(zip(self._outputs, self._session.run(None, dict(arrays)), strict=True))


class OpenVinoSession:
    """An OpenVINO or ONNX file on OpenVINO.

    device: "cpu", or another that OpenVINO knows. The precision is the card's: OpenVINO's own choice on many
    CPUs is bfloat16, which changes some labels. threads: as for `OnnxRuntimeSession`.
    Raises WeightsError for a file that cannot be used, OptionError for a device that is not there.
    """

    runtime = "openvino"
    _HINTS: ClassVar[dict[str, str]] = {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "int8": "f32"}

    def __init__(self, path: Path | Any, *, device: str = "cpu", threads: int | None = None):
        self.check_device(device)
        core = openvino_core()
        try:
            model = core.read_model(str(path)) if isinstance(path, Path) else path
            self.card = read_graph_card(_openvino_metadata(model), _name(path))
            settings = {"INFERENCE_PRECISION_HINT": self._HINTS[self.card.precision]}
            if number := _threads(threads):
                settings["INFERENCE_NUM_THREADS"] = str(number)
            self._model = core.compile_model(model, device.upper(), settings)
        except RuntimeError as error:
            raise WeightsError(f"{_name(path)} cannot be run by OpenVINO ({_cause(error)})") from error
        self.device = device
        self.precision = self.card.precision
        self._outputs = [output.get_any_name() for output in self._model.outputs]

    @staticmethod
    def check_device(device: str) -> None:
        """Raise OptionError for a device that OpenVINO does not have here."""
        there = openvino_core().available_devices
        if device.upper().partition(":")[0] not in {name.partition(".")[0] for name in there}:
            raise OptionError(f"OpenVINO cannot compute on device {device} here: it has {', '.join(there)}")

    def run(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        check_arrays(self.card, arrays)
        made = self._model(dict(arrays))
        return {name: np.array(made[name]) for name in self._outputs}


@cache
def openvino_core() -> Any:
    """The one ``openvino.Core`` of this process. Raises OptionError where OpenVINO is not installed.

    A core's CPU plugin gives the thread that makes it an alternate signal stack, and takes it away when the
    core goes. Of two cores whose first goes first, the second puts the first one's stack back, which is no
    longer there; the next signal with a handler of Python's, such as that of a child that ends, then kills
    the process.
    """
    return _module("openvino", "openvino").Core()


class TorchExportSession:
    """A program of ``torch.export`` on PyTorch.

    Raises WeightsError for a file that cannot be used, OptionError for a device that is not there.
    """

    runtime = "torch"

    def __init__(self, path: Path, *, device: str = "cpu", threads: int | None = None):
        torch = _module("torch", "train")
        if threads is not None:
            torch.set_num_threads(threads)
        extra = {KEY: ""}
        try:
            program = torch.export.load(str(path), extra_files=extra)
        # Its errors have no common type of their own.
        except Exception as error:
            raise WeightsError(f"{path} cannot be run by PyTorch ({first_line(error)})") from error
        if device != "cpu":
            raise OptionError(f"a torch-export file computes where it was made, on the cpu, not on {device}")
        self.card = read_graph_card({key: text for key, text in extra.items() if text}, path)
        self.device = device
        self.precision = self.card.precision
        self._torch = torch
        # Its guards are of the sizes that it was traced with, and some refuse others for nothing that matters
        # to the values: `check_arrays` and the check of the export say what it takes.
        unguarded = "check_guards" in inspect.signature(program.module).parameters
        self._run = program.module(**({"check_guards": False} if unguarded else {}))

    def run(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        check_arrays(self.card, arrays)
        given = {
            band: self._torch.from_numpy(np.ascontiguousarray(levels)) for band, levels in arrays.items()
        }
        with self._torch.inference_mode():
            return {name: tensor.numpy() for name, tensor in self._run(**given).items()}


def open_session(
    path: Path, *, runtime: RuntimeName | None = None, device: str = "cpu", threads: int | None = None
) -> Session:
    """The session of an exported file. runtime: None takes the one that the suffix is meant for.

    Raises WeightsError for a file that cannot be used, OptionError for a runtime that cannot run it.
    """
    if not path.is_file():
        raise WeightsError(f"exported file {path} is not there")
    runtime = runtime or SUFFIXES.get(path.suffix)
    if (path.suffix == ".pt2") != (runtime == "torch") or (path.suffix == ".xml" and runtime != "openvino"):
        raise OptionError(f"{path} is not for runtime {runtime}; name none, or another file")
    if path.suffix == ".xml" and not (weights := path.with_suffix(".bin")).is_file():
        raise WeightsError(f"{path} has its weights in {weights}, which is not there: keep the two together")
    if runtime == "torch":
        return TorchExportSession(path, device=device, threads=threads)
    if runtime == "openvino":
        return OpenVinoSession(path, device=device, threads=threads)
    if path.suffix != ".onnx":
        raise OptionError(f"{path} is no ONNX file; name one that ends in {' or '.join(SUFFIXES)}")
    return OnnxRuntimeSession(path, device=device, threads=threads)


def check_device(runtime: Literal["onnxruntime", "openvino"], device: str) -> None:
    """Raise OptionError for a device that a runtime does not have here, or where it is not installed."""
    (OnnxRuntimeSession if runtime == "onnxruntime" else OpenVinoSession).check_device(device)


def check_arrays(card: GraphCard, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise OptionError for arrays that are not what a graph takes; a runtime may convert them silently."""
    if set(arrays) != set(card.types):
        raise OptionError(
            f"this graph takes {' and '.join(card.types)}, not {' and '.join(arrays) or 'nothing'}"
        )
    for band, type in card.types.items():
        array = arrays[band]
        wanted = "(B, H, W, 3)" if band == "visible" else "(B, H, W)"
        fits = array.ndim == 4 and array.shape[3] == 3 if band == "visible" else array.ndim == 3
        if array.dtype != np.dtype(type) or not fits:
            raise OptionError(f"{band} must be {type} {wanted}, not {array.dtype} {array.shape}")


def _module(name: str, extra: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise OptionError(
            f"{name} is not installed, which runs this file: pip install 'crossband[{extra}]'"
        ) from error


def _threads(threads: int | None) -> int:
    """0 leaves it to the runtime."""
    if threads is not None:
        return threads
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() else 0


def _give_back_memory() -> None:
    """Return to the system what was freed: ONNX Runtime holds the file's weights twice while it loads them.

    Where the C library is another one than glibc, nothing is done.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)


def _name(path: object) -> str:
    return str(path) if isinstance(path, Path) else "the graph"


def _cause(error: RuntimeError) -> str:
    """What an error of OpenVINO says: its first lines name places in OpenVINO's own source."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return first_line(RuntimeError(lines[-1])) if lines else first_line(error)


def _openvino_metadata(model: Any) -> dict[str, str]:
    """An ONNX file's metadata reach OpenVINO under ``framework``, and so our own files keep them there."""
    place = ["framework", KEY]
    return {KEY: model.get_rt_info(place).astype(str)} if model.has_rt_info(place) else {}


def version_of(package: str) -> str:
    """The installed version of a package, or "none"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
