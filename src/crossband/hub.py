"""Runs on the Hugging Face Hub: ``hf://owner/name@revision`` in, a run folder out, and the way back.

Only the card and the weights are fetched, which are JSON and safetensors: nothing is ever unpickled. The
package ``huggingface_hub`` (the extra ``hub``) is imported where it is used.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from crossband.card import CARD_NAME
from crossband.errors import OptionError, WeightsError, first_line, quoted
from crossband.locks import LOCK_NAME, folder_lock
from crossband.pairs.writing import replacing, write_text
from crossband.run_card import WEIGHTS_NAME, check_run, read_card, whole_weights
from crossband.shared_card import without_folders

PREFIX = "hf://"
MODEL_CARD_NAME = "README.md"
SENT = (MODEL_CARD_NAME, CARD_NAME, WEIGHTS_NAME)
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_PLACE = re.compile(
    rf"{PREFIX}(?P<repository>{_NAME}/{_NAME})(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]*))?"
)


def is_remote(run: str | Path) -> bool:
    """Whether a run is named by its place on the hub."""
    return isinstance(run, str) and run.startswith(PREFIX)


def run_folder(run: str | Path) -> Path:
    """Where a run lies that is named by its folder, or by its place on the hub. Raises as `fetch`."""
    return fetch(str(run)) if is_remote(run) else Path(run)


def fetch(run: str) -> Path:
    """The folder that a run of the hub lies in on this machine, fetched if it is not there yet.

    run: ``hf://owner/name@revision``. The revision is a commit, a tag or a branch; it must be named, so that
    the same line gives the same weights tomorrow. A commit that was fetched once is not asked for again, and
    needs no network.

    Raises OptionError for another form, WeightsError for what is not there or cannot be had.
    """
    match = _PLACE.fullmatch(run)
    if match is None:
        raise OptionError(f"{quoted(run)} is no place on the hub; write {PREFIX}OWNER/NAME@REVISION")
    if match["revision"] is None:
        raise OptionError(
            f"{run} names no revision: write {run}@COMMIT, which its page and `crossband push` tell, so that "
            "the weights stay the same"
        )
    hub = _package()
    try:
        folder = hub.snapshot_download(
            match["repository"], revision=match["revision"], allow_patterns=[CARD_NAME, WEIGHTS_NAME]
        )
    except _failures(hub) as error:
        raise WeightsError(f"{run} cannot be had from the hub ({first_line(error)})") from error
    check_run(folder)
    return Path(folder)


def push(run: Path, repository: str, model_card: str, *, private: bool = False) -> str:
    """Put a run and its model card on the hub, and say where: ``hf://owner/name@commit``.

    repository: ``owner/name``, made if it is not there. What goes: the card without the folders of this
    machine (`crossband.shared_card`), the weights and ``README.md``.

    Raises OptionError for a name that is none, WeightsError for a run that is not finished or damaged, and
    where the hub refuses.
    """
    _check_repository(repository)
    hub = _package()
    with tempfile.TemporaryDirectory() as folder:
        _write(run, Path(folder), model_card)
        try:
            api = hub.HfApi()
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message="Add a run of Crossband"
            )
        except _failures(hub) as error:
            raise WeightsError(
                f"{repository}: the hub refused, or cannot be reached ({first_line(error)})"
            ) from error
    return f"{PREFIX}{repository}@{commit.oid}"


def push_to_folder(run: Path, repository: str, model_card: str, folder: Path) -> None:
    """Write what `push` would send into a folder, and send nothing: no network and no account is needed.

    folder: a new or an empty one, which `crossband.load` then loads as what was pushed. Raises as `push`, and
    OptionError for a folder that holds something.
    """
    _check_repository(repository)
    with folder_lock(folder):
        there = sorted(path.name for path in folder.iterdir() if path.name != LOCK_NAME)
        if there:
            raise OptionError(f"{folder} is not empty, it holds {quoted(there[0])}: name a new folder")
        _write(run, folder, model_card)


def _check_repository(repository: str) -> None:
    if not re.fullmatch(f"{_NAME}/{_NAME}", repository):
        raise OptionError(f"{quoted(repository)} is no repository of the hub; write OWNER/NAME")


def _write(run: Path, folder: Path, model_card: str) -> None:
    """The files of a run that go to others. The card comes last: a folder with one is complete."""
    whole = read_card(run)
    card, weights = without_folders(whole), whole_weights(run, whole)
    with replacing(folder / WEIGHTS_NAME) as temporary:
        shutil.copyfile(weights, temporary)
    write_text(folder / MODEL_CARD_NAME, model_card)
    write_text(folder / CARD_NAME, card.to_json())


def _failures(hub: Any) -> tuple[type[Exception], ...]:
    """What the hub's package raises. HTTPError is that of the HTTP client below it, of which there have been
    several: where no network is, it comes through."""
    return hub.errors.HfHubHTTPError, hub.errors.HTTPError, OSError, ValueError


def _package() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise OptionError(
            "the hub needs the package huggingface_hub: pip install 'crossband[hub]'"
        ) from error
    return huggingface_hub
