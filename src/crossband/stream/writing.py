"""The moments of a stream in a folder: pictures, labels, and a table of what the cameras did."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from crossband.errors import OptionError
from crossband.pairs.writing import write_image, write_label, write_text
from crossband.predicting import facts_of
from crossband.predictor import Predictor
from crossband.result_folder import MANIFEST_NAME, Manifest
from crossband.stream.drawing import Show
from crossband.stream.stream import Moment, Stream
from crossband.version import __version__
from crossband.words import BANDS

TABLE_NAME = "moments.csv"
_COLUMNS = ("moment", "seconds", "gap_ms", "bands", *(f"{band}_off" for band in BANDS))


class MomentFolder:
    """Writes ``out/{overlay or fused,label}/NNNNNN.png``, and a line for each moment into ``moments.csv``.

    ``manifest.json`` says what made them, and whether the stream came to its end. cameras: what each band
    comes from, by band. options: what else the stream was told, for the manifest.

    Raises OptionError for a folder that has such a table already, or cannot be written.
    """

    def __init__(
        self, out: Path, show: Show, stream: Stream, cameras: Mapping[str, str], options: Mapping[str, object]
    ):
        self.out, self._show, self._count = out, show, 0
        self._stream, self._cameras, self._options = stream, dict(cameras), dict(options)
        self._table: Any = None

    def __enter__(self) -> MomentFolder:
        path = self.out / TABLE_NAME
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            # Line by line, so that what ends a stream leaves whole lines.
            self._table = path.open("x", encoding="utf-8", newline="", buffering=1)
        except FileExistsError as error:
            raise OptionError(f"{path} is there already; choose another folder as --out") from error
        except OSError as error:
            raise OptionError(f"cannot write {path}: {error.strerror}; choose another place") from error
        csv.writer(self._table, lineterminator="\n").writerow(_COLUMNS)
        self._keep("unfinished")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.close()
        self._keep("finished" if error is None else "unfinished")

    def write(self, moment: Moment, picture: np.ndarray | None) -> None:
        """Add a moment. picture: what is shown of it, None for nothing."""
        name = f"{self._count:06d}"
        prediction = moment.prediction
        if prediction is not None and picture is not None:
            write_image(self.out / self._show / f"{name}.png", picture)
            if prediction.labels is not None and prediction.classes is not None:
                write_label(self.out / "label" / f"{name}.png", prediction.labels, prediction.classes.palette)
        gap = moment.match.gap
        csv.writer(self._table, lineterminator="\n").writerow(
            [
                *(name, f"{moment.time / 1e9:.6f}", "" if gap is None else f"{gap / 1e6:.3f}"),
                "" if prediction is None else prediction.bands,
                *(moment.faults.get(band) or "" for band in BANDS),
            ]
        )
        self._count += 1

    def _keep(self, state: str) -> None:
        document = {
            "made_by": asdict(_manifest(self._stream.predictor, self._cameras)),
            "run": self._stream.predictor.origin,
            "options": self._options,
            "state": state,
            "moments": self._count,
            "crossband": __version__,
        }
        write_text(self.out / MANIFEST_NAME, json.dumps(document, indent=2) + "\n")


def _manifest(predictor: Predictor, cameras: Mapping[str, str]) -> Manifest:
    """What makes the results. An "auto" scaling is settled by the first infrared image, and None before."""
    registration = predictor.registration
    return Manifest(
        command="stream",
        **facts_of(predictor),
        bands="both" if len(cameras) == 2 else next(iter(cameras)),
        visible=cameras.get("visible"),
        infrared=cameras.get("infrared"),
        stretch=False,
        rig=None if registration is None else str(registration),
    )
