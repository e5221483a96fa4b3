"""From what was asked for to tables: plan, do the jobs, and write what there is after each of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from crossband.locks import folder_lock
from crossband.many.cluster import Launcher
from crossband.reproduce.filling import fill
from crossband.reproduce.folders import TABLES_NAME, is_finished
from crossband.reproduce.jobs import Plan
from crossband.reproduce.printing import write_table
from crossband.reproduce.running import Say, work
from crossband.reproduce.settings import Compute
from crossband.reproduce.settings_file import keep
from crossband.text import counted


def reproduce(
    plan: Plan, out: Path, *, compute: Compute, launcher: Launcher, command: str, say: Say = print
) -> dict[str, str]:
    """Do the jobs of a plan that are not finished, and write its tables; returns why jobs failed, by name.

    The tables are written after each job, with what there is by then. Raises OptionError for an output
    folder of other settings.
    """
    keep(out, plan.settings)
    missing = write_tables(plan, out, command, {})
    say(f"{counted(len(plan.jobs), 'job')}, {missing} to do, in {out}")

    def after() -> None:
        write_tables(plan, out, command, {})

    if launcher.name == "ray":
        from crossband.reproduce.ray_launcher import work_on_ray

        failed = work_on_ray(plan.jobs, out, compute, say, after, launcher)
    else:
        failed = work(plan.jobs, out, compute, say, after)
    write_tables(plan, out, command, failed)
    return failed


def write_tables(plan: Plan, out: Path, command: str, failed: Mapping[str, str]) -> int:
    """Write the tables of a plan with what is finished; returns how many jobs are not."""
    # Several workers may share the folder, each of which writes the tables in its turn.
    with folder_lock(out / TABLES_NAME, wait=True):
        for table in plan.tables:
            write_table(fill(table, plan, out, failed, {"command": command}), out / TABLES_NAME)
    return sum(not is_finished(out, job) for job in plan.jobs.values())
