"""``crossband export``: from a run to files for other runtimes, each held against PyTorch first."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crossband.card import CARD_NAME, Card
from crossband.errors import CrossbandError, OptionError, UnwritableError, first_line
from crossband.export.deployable import LOGITS, Deployable
from crossband.export.lighter import half_onnx, int8_onnx, int8_openvino
from crossband.export.onnx_graph import (
    onnx_graph,
    output_names,
    with_card,
    without_output,
)
from crossband.export.openvino_graph import openvino_graph, save_openvino
from crossband.export.openvino_graph import without_output as openvino_without
from crossband.export.parity import Parity, check_asked, compare, pairs_to_check
from crossband.export.torch_program import save_program, torch_program
from crossband.export.tracing import OPSET
from crossband.locks import folder_lock
from crossband.pairs.auto_scaling import AUTO
from crossband.pairs.base import Pair
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.opening import open_pairs
from crossband.pairs.writing import replacing, write_text
from crossband.runtime.exported import BUNDLE_NAME, bundle_text
from crossband.runtime.graph_card import GraphCard
from crossband.runtime.sessions import (
    OnnxRuntimeSession,
    OpenVinoSession,
    Session,
    TorchExportSession,
    version_of,
)
from crossband.systems.base import System
from crossband.words import BAND_COMBINATIONS, BANDS, Band, Bands, ExportFormat, ExportPrecision, LevelType

SUFFIX: dict[ExportFormat, str] = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}
CHECK_SCENES = "scenes,train=0,val=0,test=3,size=240x320"
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is exported, and how it is checked.

    bands: one combination, into one file; "all": every one that the system runs on, into a bundle.
    precision: of the weights, and of what is computed where the runtime can choose. visible_type,
    infrared_type: what the cameras store; None takes what the run was trained on.
    check, split: the pairs of the parity check; None takes what the run was validated on, else scenes.
    check_pairs: how many of them tell the mean IoU that is lost. calibration: the source of int8's ranges;
    None takes the pairs of the check. least_agreement: the share of labels that must agree; None for the
    precision's own.
    """

    format: ExportFormat = "onnx"
    bands: Bands | str = "all"
    precision: ExportPrecision = "fp32"
    visible_type: LevelType = "uint8"
    infrared_type: LevelType | None = None
    check: str | None = None
    split: str | None = None
    check_pairs: int = 12
    calibration: str | None = None
    calibration_pairs: int = 48
    least_agreement: float | None = None


@dataclass
class Exporting:
    """A run on its way into files. Its parts are made once, whatever is exported of them."""

    system: System
    card: Card
    options: ExportOptions
    tell: Tell
    pairs: list[Pair] = field(default_factory=list)
    data: str = ""

    def types(self, bands: Bands) -> dict[Band, LevelType]:
        """What each band of a combination is taken as."""
        infrared = self.options.infrared_type or _stored_type(self.card)
        chosen: dict[Band, LevelType] = {"visible": self.options.visible_type, "infrared": infrared}
        return {band: chosen[band] for band in BANDS if bands in ("both", band)}


def export_run(
    system: System, card: Card, out: Path, options: ExportOptions, tell: Tell = print
) -> dict[Bands, list[Parity]]:
    """Export a run: one combination of bands into the file ``out``, or all into a bundle, the folder ``out``.

    tell: is told, a line at a time, what is done and what the checks found.
    Raises OptionError for options that do not go together, for what cannot be exported, and where a graph's
    answer is not PyTorch's: then nothing is written.
    """
    _check_options(card, out, options)
    job = Exporting(system.eval().cpu(), card, options, tell)
    job.data, job.pairs = _open_check(card, options, tell)
    wanted: list[Bands] = [
        bands for bands in BAND_COMBINATIONS if bands in system.supports and options.bands in ("all", bands)
    ]
    if not wanted:
        system.check_bands(options.bands)  # type: ignore[arg-type]
    whole = options.bands == "all"
    if not whole:
        _check_writable(out)
    with folder_lock(out) if whole else nullcontext(), tempfile.TemporaryDirectory() as name:
        # Put in their place when all of them are checked.
        made = [_export_one(job, bands, Path(name) / f"{bands}{SUFFIX[options.format]}") for bands in wanted]
        if not whole:
            _keep(made[0].file, out)
        else:
            for graph in made:
                _keep(graph.file, out / graph.file.name)
            files = {graph.card.bands: (graph.file.name, graph.card) for graph in made}
            write_text(out / BUNDLE_NAME, bundle_text(files))
    return {graph.card.bands: graph.found for graph in made}


def export_as_read(system: System, card: Card, bands: Bands, file: Path, tell: Tell = print) -> list[Parity]:
    """Export one combination into an ONNX file that takes images as they were read: float32, in [0, 1].

    The card's scaling rule stays outside, so that nothing is rounded to a camera's levels; the card in the
    file says full-range. The check is that of `export_run`, as is what is raised.
    """
    options = ExportOptions(bands=bands, visible_type="float32", infrared_type="float32")
    data, pairs = _open_check(card, options, tell)
    taken = replace(card, infrared_scaling=str(InfraredScaling()))
    job = Exporting(system.eval().cpu(), taken, options, tell, pairs, data)
    with tempfile.TemporaryDirectory() as name:
        made = _export_one(job, bands, Path(name) / file.name)
        _keep(made.file, file)
    return made.found


def _check_writable(out: Path) -> None:
    """Raise OptionError, before the work, where a file cannot be written."""
    there = next(folder for folder in out.absolute().parents if folder.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise UnwritableError(out, error.strerror or str(error)) from error


def _check_options(card: Card, out: Path, options: ExportOptions) -> None:
    check_asked(
        options.least_agreement,
        check_pairs=options.check_pairs,
        calibration_pairs=options.calibration_pairs,
    )
    if options.calibration is not None and options.precision != "int8":
        raise OptionError(f"--calibration is for --precision int8, not {options.precision}: leave it out")
    if options.calibration is None and options.calibration_pairs != ExportOptions.calibration_pairs:
        raise OptionError("--calibration_pairs is of --calibration: give that too, or leave it out")
    if options.bands == "infrared" and options.visible_type != ExportOptions.visible_type:
        raise OptionError("--visible_type is of a band that a graph for infrared does not take: leave it out")
    if options.bands == "visible" and options.infrared_type is not None:
        raise OptionError("--infrared_type is of a band that a graph for visible does not take: leave it out")
    suffix = SUFFIX[options.format]
    if card.infrared_scaling == AUTO:
        raise OptionError(
            "a graph holds one rule for infrared: give --infrared_scaling, as full-range for 8-bit images"
        )
    if options.bands != "all" and out.suffix != suffix:
        raise OptionError(f"one combination of bands is one file: name --out FILE{suffix}, not {out}")
    if options.bands != "all" and out.is_dir():
        raise OptionError(f"one combination of bands is one file, but {out} is a folder: name another")
    if options.bands == "all" and out.suffix in SUFFIX.values():
        raise OptionError(
            f"all combinations of bands are a folder, but {out} is named like a file; name one, as in "
            "--bands both"
        )
    if options.bands == "all" and (out / CARD_NAME).is_file():
        raise OptionError(
            f"{out} is a run folder, which would be taken for exported files from then on: name another"
        )
    if options.precision == "int8" and options.format == "torch-export":
        raise OptionError("int8 is made for onnx and openvino, not for torch-export")
    if options.precision == "bf16" and options.format != "openvino":
        raise OptionError("bf16 is a way in which OpenVINO computes: use --format openvino")
    if options.precision == "fp16" and options.format == "torch-export":
        raise OptionError("a torch-export file is of fp32; PyTorch's autocast computes it in less")


def _stored_type(card: Card) -> LevelType:
    """What the infrared camera of a run's training pairs stores, as a graph takes it.

    It is uint16, which holds what 8 bits do too, where that is not known.
    """
    trained_on: Any = (card.training.get("trained_on") or {}).get("infrared") or {}
    kinds = set(trained_on.get("types", {}))
    rule = InfraredScaling.parse(card.infrared_scaling).rule
    # Degrees are floats, whatever a radiometric file stores them as.
    if rule == "celsius" or any(kind.startswith("float") for kind in kinds):
        return "float32"
    if kinds == {"uint8"} and rule == "full-range":
        return "uint8"
    # Whatever has looked at the whole image has values between the levels of 8 bits.
    return "uint16"


def _open_check(card: Card, options: ExportOptions, tell: Tell) -> tuple[str, list[Pair]]:
    """The pairs of the check, and what they are.

    Raises OptionError where those of the run cannot be read and are to tell the ranges of int8.
    """
    most = max(3, options.check_pairs)
    if options.check is not None:
        source, splits = options.check, [options.split or "test"]
    else:
        source = str(card.training.get("data", CHECK_SCENES))
        splits = [options.split] if options.split else ["val", "test", "train"]
    error: CrossbandError | None = None
    for split in splits:
        try:
            pairs = open_pairs(source, split, infrared_scaling=card.infrared_scaling)
            return f"{pairs.source} {split}", pairs_to_check(pairs, most, card.classes)
        except CrossbandError as caught:
            error = error or caught
    if options.check is not None or options.split is not None:
        assert error is not None
        raise error
    # What a run was validated on need not be on this machine.
    if "data" in card.training and error is not None:
        why = f"the run's own pairs cannot be read ({first_line(error)})"
        if options.precision == "int8" and options.calibration is None:
            raise OptionError(f"int8 takes its ranges from pairs, and {why}: give --calibration or --check")
        tell(f"note: {why}: generated scenes take their place in the check; --check names others")
    return "generated scenes", pairs_to_check(open_pairs(CHECK_SCENES, "test"), 3, card.classes)


def _calibration_pairs(job: Exporting) -> list[Pair]:
    options = job.options
    if options.calibration is None:
        return job.pairs
    pairs = open_pairs(options.calibration, "train", infrared_scaling=job.card.infrared_scaling, labels=False)
    return pairs_to_check(pairs, options.calibration_pairs, None)


@dataclass
class _Made:
    """A graph that was made and checked: its file, the card in it, and what the check found."""

    file: Path
    card: GraphCard
    found: list[Parity]


def _export_one(job: Exporting, bands: Bands, file: Path) -> _Made:
    """Make the graph of one combination of bands, check it, and write it to a file."""
    options = job.options
    scaling = InfraredScaling.parse(job.card.infrared_scaling)
    deployable = Deployable(job.system, bands, scaling, job.types(bands))
    card = GraphCard(
        run=job.card,
        bands=bands,
        support=job.system.supports[bands],
        types=deployable.types,
        outputs=deployable.outputs,
        format_of_file=options.format,
        precision=options.precision,
        opset=None if options.format == "torch-export" else OPSET,
        made_with={name: version_of(name) for name in ("torch", "onnx", "onnxruntime", "openvino", "nncf")},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.format == "torch-export":
            return _export_program(job, deployable, card, folder, file)
        model = onnx_graph(deployable)
        if options.format == "onnx":
            return _export_onnx(job, deployable, model, card, folder, file)
        return _export_openvino(job, deployable, model, card, folder, file)


def _export_onnx(
    job: Exporting, deployable: Deployable, model: Any, card: GraphCard, folder: Path, file: Path
) -> _Made:
    import onnx

    if job.options.precision == "fp16":
        model = half_onnx(model)
    elif job.options.precision == "int8":
        model, layers = int8_onnx(model, deployable, _calibration_pairs(job), folder)
        card = replace(card, float_layers=layers)
    checked = folder / "checked.onnx"
    onnx.save(with_card(model, card), checked)
    sessions: list[Session] = [OnnxRuntimeSession(checked)]
    # OpenVINO has other ways with int8 and float16 of ONNX; its own format has its own.
    if job.options.precision == "fp32" and version_of("openvino") != "none":
        sessions.append(OpenVinoSession(checked))
    found = held_against(job, deployable, sessions)
    card = replace(card, checked=_checked(found))
    final = with_card(without_output(model, LOGITS), card)
    assert tuple(output_names(final)) == card.outputs
    onnx.save(final, file)
    return _Made(file, card, found)


def _export_openvino(
    job: Exporting, deployable: Deployable, model: Any, card: GraphCard, folder: Path, file: Path
) -> _Made:
    import onnx

    plain = folder / "plain.onnx"
    onnx.save(model, plain)
    graph = openvino_graph(plain)
    if job.options.precision == "int8":
        graph, layers = int8_openvino(graph, deployable, _calibration_pairs(job))
        card = replace(card, float_layers=layers)
    checked = folder / "checked.xml"
    save_openvino(graph, checked, card)
    found = held_against(job, deployable, [OpenVinoSession(checked)])
    card = replace(card, checked=_checked(found))
    save_openvino(openvino_without(graph, LOGITS), file, card)
    return _Made(file, card, found)


def _export_program(
    job: Exporting, deployable: Deployable, card: GraphCard, folder: Path, file: Path
) -> _Made:
    program = torch_program(deployable)
    checked = folder / "checked.pt2"
    save_program(program, checked, card)
    found = held_against(job, deployable, [TorchExportSession(checked)])
    card = replace(card, checked=_checked(found))
    save_program(program, file, card)
    return _Made(file, card, found)


def _keep(made: Path, out: Path) -> None:
    """Put a file into its place, after the weights that OpenVINO keeps beside it."""
    with ExitStack() as stack:
        for suffix in (out.suffix, *([".bin"] if out.suffix == SUFFIX["openvino"] else [])):
            shutil.copyfile(made.with_suffix(suffix), stack.enter_context(replacing(out.with_suffix(suffix))))


def held_against(job: Exporting, deployable: Deployable, sessions: list[Session]) -> list[Parity]:
    """What the parity check finds for each runtime. Raises OptionError where one is beyond tolerance."""
    classes = len(job.card.classes) if job.card.classes and deployable.system.segments else 0
    found = []
    for session in sessions:
        parity = compare(
            session,
            deployable,
            job.pairs,
            job.data,
            count_iou=classes if job.options.precision != "fp32" else 0,
        )
        job.tell(f"{deployable.bands}: {parity.text()}")
        failure = parity.failure(job.options.least_agreement)
        if failure is not None:
            raise OptionError(
                f"{deployable.bands} on {parity.runtime} is not what PyTorch gives: {failure}; "
                "nothing is written"
            )
        found.append(parity)
    return found


def _checked(found: list[Parity]) -> dict[str, Any]:
    return {parity.runtime: asdict(parity) for parity in found}
