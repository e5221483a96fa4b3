"""The commands for exported files: ``export`` and ``verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from crossband.errors import OptionError
from crossband.terminal import SOURCE_HELP
from crossband.words import ExportFormat, ExportPrecision, LevelType


def export_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "run", type=str, help="a finished run folder, or a system that needs no training, such as laplacian"
    )
    parser.add_argument("--format", type=ExportFormat, default="onnx", help="of the file")
    parser.add_argument(
        "--bands",
        type=Literal["all", "both", "infrared", "visible"],
        default="all",
        help="one combination of bands into one file, or all that the system runs on into a folder",
    )
    parser.add_argument(
        "--precision",
        type=ExportPrecision,
        default="fp32",
        help="fp16: weights in half the size; int8: calibrated on pairs; bf16: OpenVINO computes in it",
    )
    parser.add_argument("--out", type=str, required=True, help="FILE.onnx, FILE.xml, FILE.pt2, or a folder")
    parser.add_argument(
        "--visible_type", "--visible-type", type=LevelType, default="uint8", help="what the camera stores"
    )
    parser.add_argument(
        "--infrared_type",
        "--infrared-type",
        type=LevelType | None,
        help="what the camera stores (default: as the training pairs; uint16 for minmax and percentile)",
    )
    parser.add_argument(
        "--infrared_scaling",
        "--infrared-scaling",
        type=str | None,
        help="for a system that needs no training: the rule that is put into the graph; a run has its own",
    )
    parser.add_argument(
        "--check",
        type=str | None,
        help=f"{SOURCE_HELP}; what the graph is held against PyTorch on (default: the run's own, or scenes)",
    )
    parser.add_argument("--split", type=str | None, help="the split of --check")
    parser.add_argument(
        "--check_pairs", "--check-pairs", type=int, default=12, help="pairs that tell the mIoU lost"
    )
    parser.add_argument(
        "--calibration",
        type=str | None,
        help="pairs whose ranges int8 is made for (default: those of --check)",
    )
    parser.add_argument(
        "--calibration_pairs", "--calibration-pairs", type=int, default=48, help="how many of them"
    )
    parser.add_argument(
        "--least_agreement",
        "--least-agreement",
        type=float | None,
        help="share of labels that must be PyTorch's, else nothing is written (default: by precision)",
    )


def export(options: Namespace) -> None:
    from crossband.loading import load

    predictor = load(options.run, infrared_scaling=options.infrared_scaling, device="cpu")
    from crossband.runtime.exported import Exported

    if isinstance(predictor.system, Exported):
        raise OptionError(f"{options.run} is exported already; name the run that it was made of")
    from crossband.export.exporting import ExportOptions, export_run

    names = ("format", "bands", "precision", "visible_type", "infrared_type", "check", "split")
    more = ("check_pairs", "calibration", "calibration_pairs", "least_agreement")
    out = Path(options.out)
    export_run(
        predictor.system,
        predictor.card,
        out,
        ExportOptions(**{name: options[name] for name in (*names, *more)}),
        lambda line: print(line, flush=True),
    )
    print(f"written: {out}")


def verify_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", type=str, help="an exported file, or the folder of a bundle")
    parser.add_argument("run", type=str, help="the run folder, or the system, that it was exported from")
    parser.add_argument("--data", type=str, required=True, help=SOURCE_HELP)
    parser.add_argument("--split", type=str, default="test", help="the split to compare on")
    parser.add_argument("--pairs", type=int, default=12, help="how many pairs tell the mIoU lost")
    parser.add_argument(
        "--runtime",
        type=Literal["onnxruntime", "openvino"] | None,
        help="what computes (default: what the file is meant for)",
    )
    parser.add_argument(
        "--device",
        type=str,
        default="cpu",
        help="where; it is an error if that is not what the runtime takes",
    )
    parser.add_argument(
        "--least_agreement",
        "--least-agreement",
        type=float | None,
        help="share of labels that must be PyTorch's (default: by precision)",
    )


def verify(options: Namespace) -> None:
    from crossband.runtime.exported import is_exported, open_exported

    path = Path(options.file)
    if not is_exported(path):
        raise OptionError(f"{path} is no exported file: name what `crossband export` wrote")
    exported = open_exported(path, runtime=options.runtime, device=options.device)
    from crossband.export.verifying import verify_exported

    verify_exported(
        exported,
        options.run,
        options.data,
        options.split,
        pairs=options.pairs,
        least=options.least_agreement,
        tell=lambda line: print(line, flush=True),
    )
    print(f"{path} gives what {options.run} gives")
