"""The words that the command line and the library share: bands, precisions and what else is chosen by name.

Nothing heavy is imported here, so that `crossband --help` can offer what the library takes.
"""

from __future__ import annotations

from typing import Literal, get_args

Band = Literal["visible", "infrared"]
BANDS: tuple[Band, Band] = ("visible", "infrared")
BANDS_ALONE: dict[str, Band] = {f"{band} alone": band for band in BANDS}
"""Rows of every table of fused pictures: a fusion is often no better than one of the two."""

Bands = Literal["both", "infrared", "visible"]
BAND_COMBINATIONS: tuple[Bands, ...] = get_args(Bands)

Support = Literal["designed", "fallback"]
"""Whether a system was designed for a combination of bands, or runs on it all the same."""

Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""Of a forward pass under autocast, "float32" being without."""

LevelType = Literal["uint8", "uint16", "float32"]
"""How an exported graph takes an image: the type that a camera stores."""
ExportFormat = Literal["onnx", "openvino", "torch-export"]
ExportPrecision = Literal["fp32", "fp16", "bf16", "int8"]
"""What the weights of an exported file are stored or computed in."""
RuntimeChoice = Literal["auto", "torch", "compile", "onnxruntime", "openvino"]
"""What computes. "auto" is PyTorch or a graph that was held against it, whichever is there or pays."""
AUTO_EXPORTS_FROM = 200
"""Pairs for which "auto" makes graphs that are not there: clearly more than an export takes as long as."""
Accelerator = Literal["auto", "cpu", "gpu"]
Select = Literal["best", "last"]
Logger = Literal["tensorboard", "wandb", "mlflow", "none"]
"""Where a training's curves go beside its own file."""

Contrast = Literal["linear", "agc"]
"""How infrared becomes grey in pictures: as it is, or equalised over its sequence."""

Tool = Literal["cvat", "label-studio", "fiftyone"]
TOOLS: tuple[Tool, ...] = get_args(Tool)
"""Annotation tools that labels are written for."""

Missing = Literal["use", "skip", "error"]
"""What to do with an image whose partner is missing: use it alone, leave it out, or raise."""

PairBy = Literal["name", "time"]
"""What makes two images a pair: the same name, or the nearest times."""

FrameFault = Literal["no frame", "frozen", "black", "saturated", "fixed pattern"]
FRAME_FAULTS: tuple[FrameFault, ...] = get_args(FrameFault)
"""What can be wrong with the frames of a camera, whatever looks at them."""
Fault = Literal[FrameFault, "harmful"]
"""What can be wrong with a band: without a "harmful" one, a run is expected to answer better."""
FAULTS: tuple[Fault, ...] = get_args(Fault)

OnError = Literal["skip", "stop"]
"""What to do after a pair that cannot be used: go on, or raise."""

Budget = Literal["paper", "quick"]
"""How long the tables of papers are trained for: as the papers do, or shortly, small and alike."""

PAIR_COUNTS_NAME = "evaluation-pairs.npz"
"""What `crossband evaluate` counted in every pair, which `crossband compare` reads."""

IGNORE_INDEX = 255
"""The id that every ignored or padded label pixel has after reading, whatever its id on disk."""
