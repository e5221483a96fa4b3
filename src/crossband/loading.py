"""From what is trained or exported, by its place or its name, to a predictor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossband.errors import OptionError
from crossband.hub import run_folder
from crossband.option_types import check_arguments
from crossband.pairs.auto_scaling import AUTO
from crossband.pairs.false_colour import REFUSE
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.predictor import Predictor
from crossband.run_card import check_run
from crossband.runtime.choosing import check_choice
from crossband.runtime.exported import is_exported, open_exported
from crossband.words import Band, Bands, Precision, RuntimeChoice

if TYPE_CHECKING:
    import torch

    from crossband.runtime.tiling import Tiling


def load(
    run: str | Path,
    *,
    infrared_scaling: str | None = None,
    device: str | torch.device | None = None,
    false_colour: str = REFUSE,
    runtime: RuntimeChoice | None = None,
    expects: Mapping[Bands, int] | None = None,
    precision: Precision = "float32",
    tiling: Tiling | None = None,
    rig: str | Path | None = None,
    frame: Band | None = None,
    monitor: bool = False,
    bands: Bands | None = None,
) -> Predictor:
    """The predictor of a finished run folder, of an exported file or bundle, or of a system without training.

    An exported file (``.onnx``, ``.xml``) or bundle needs no PyTorch. A system that needs no training goes by
    its name; a folder of that name counts only if it holds a run, as it may well be where pictures were put.
    infrared_scaling: the rule that turns stored infrared values into [0, 1], for a system that needs no
    training (None: "auto", see `Predictor.scaling`); a run was trained under the one in its card.
    false_colour: what to do with infrared images in false colours (`false_colour_rule`).
    runtime: what computes. None is PyTorch for a run, and for an exported file what its suffix is meant for.
    "onnxruntime" and "openvino" make a run's graphs when they are first needed, and keep them in its folder;
    "auto" takes these where they are, or pay (`choose_runtime`), in float32 on a CPU; "compile" is
    torch.compile. expects: how many pairs of each combination of bands are to come, for "auto".
    precision, tiling, rig, frame, monitor, bands: as for `Predictor`.
    A run on the Hugging Face Hub is named ``hf://owner/name@revision`` (`crossband.hub.fetch`).

    Raises WeightsError, with what is wrong, for anything else, OptionError for a scaling given to a run and
    as `check_choice`.
    """
    run = run_folder(run)
    check_arguments({"infrared_scaling": str | None}, {"infrared_scaling": infrared_scaling})
    check_choice(runtime, precision, tiling, of_file=is_exported(Path(run)))
    how: dict[str, Any] = {
        **{"false_colour": false_colour, "precision": precision, "tiling": tiling},
        **{"rig": rig, "frame": frame, "monitor": monitor, "bands": bands},
    }
    if is_exported(Path(run)):
        own: Any = None if runtime in (None, "auto") else runtime
        exported = open_exported(Path(run), runtime=own, device=None if device is None else str(device))
        if infrared_scaling is not None:
            raise OptionError(
                f"{run} was exported with infrared scaling {exported.card.infrared_scaling}; give no other"
            )
        return Predictor(exported, exported.card, **how)
    told = check_run(run)
    if told is not None and infrared_scaling is not None:
        raise OptionError(f"{run} was trained with infrared scaling {told.infrared_scaling}; give no other")
    plain = precision == "float32" and tiling is None
    if runtime in ("onnxruntime", "openvino") or (runtime == "auto" and plain):
        from crossband.export.cached import graphs_of

        on = None if device is None else str(device)
        graphs, choice = graphs_of(Path(run), told, runtime, expects=expects or {}, device=on)
        how["chosen"] = None if choice is None else str(choice)
        if graphs is not None:
            return Predictor(graphs, graphs.trained, origin=run, **how)
    how |= {"device": device, "compiled": runtime == "compile"}
    from crossband.systems import create
    from crossband.weights import load_run, make_card

    if told is not None:
        return Predictor(*load_run(run), origin=run, **how)
    system = create(str(run))
    scaling = infrared_scaling or AUTO
    if scaling != AUTO:
        scaling = str(InfraredScaling.parse(scaling))
    return Predictor(system, make_card(system, None, scaling, {}), **how)
