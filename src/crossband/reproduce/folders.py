"""Where jobs lie under an output folder, how far they are, and what they scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from crossband.card import CARD_NAME
from crossband.errors import OptionError, first_line
from crossband.locks import holder_of
from crossband.reproduce.jobs import Job, Scoring

TABLES_NAME = "tables"
_JOBS = "jobs"
State = Literal["finished", "running", "interrupted", "to do"]


def folder_of(out: Path, job: Job | str) -> Path:
    """The folder of a job, or of its name."""
    return out / _JOBS / (job if isinstance(job, str) else job.name)


def run_of(out: Path, job: Job | str) -> Path:
    """The run folder of a job."""
    return folder_of(out, job) / "run"


def scores_of(out: Path, job: Job | str, test: Scoring) -> Path:
    """The file with the scores of a test."""
    return folder_of(out, job) / f"evaluation-{test.name}.json"


def has_scores(run: Path) -> bool:
    """Whether a run folder is that of a job of which a test is scored."""
    run = run.resolve()
    # OUT/jobs/DATA/SYSTEM-xxxxxxxx/seedN/run
    job, above = run.parent, run.parents[3:5]
    is_job = len(above) == 2 and run == run_of(above[1], job.relative_to(above[0]).as_posix())
    return is_job and any(job.glob("evaluation-*.json"))


def tables_below(folder: Path) -> list[Path]:
    """The pages of tables of papers, sorted: those that lie, as CSV too, in a folder beside that of jobs."""
    tables = [jobs.parent / TABLES_NAME for jobs in folder.rglob(_JOBS) if jobs.is_dir()]
    return sorted(page for one in tables for page in one.glob("*.html") if page.with_suffix(".csv").is_file())


def counts_of(out: Path, job: Job | str, test: Scoring) -> Path:
    """The file with what a test counted in every pair, from which its intervals are drawn."""
    return folder_of(out, job) / f"evaluation-{test.name}-pairs.npz"


def is_begun(out: Path, job: Job) -> bool:
    """Whether a job's training got as far as to write what it is."""
    return (run_of(out, job) / "config.yaml").is_file()


def is_trained(out: Path, job: Job | str) -> bool:
    """Whether a job's training is finished."""
    return (run_of(out, job) / CARD_NAME).is_file()


def is_finished(out: Path, job: Job) -> bool:
    """Whether a job is trained and all its tests are scored."""
    return is_trained(out, job) and all(scores_of(out, job, test).is_file() for test in job.scorings)


def state_of(out: Path, job: Job) -> State:
    """How far a job is. It is running where another worker holds its lock."""
    if is_finished(out, job):
        return "finished"
    if holder_of(folder_of(out, job)) is not None:
        return "running"
    return "interrupted" if is_begun(out, job) else "to do"


def read_scores(out: Path, job: Job | str, test: Scoring) -> dict[str, Any] | None:
    """What `evaluation_dict` said of a test's bands, and of how many ``pairs``; None if it is not scored.

    Raises OptionError, naming the file, for one that is damaged.
    """
    path = scores_of(out, job, test)
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        scores = document["results"][test.bands]
        found = {name: scores[name] for name in ("overall", "support")}
        return {**found, "pairs": int(document["pairs"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise OptionError(
            f"{path} is damaged ({first_line(error)}); delete it, and the same command scores this job again"
        ) from error
