"""From what was asked for to tables: plan, do the jobs, and write what there is after each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crossband.reproduce.estimate import estimate_jobs, spoken_time
from crossband.reproduce.filling import fill
from crossband.reproduce.jobs import LEFT_OUT, Plan
from crossband.reproduce.printing import write_table
from crossband.reproduce.running import Compute, Say, describe, state_of, work
from crossband.reproduce.settings import keep

TABLES_NAME = "tables"


@dataclass(frozen=True)
class Launcher:
    """Who does the jobs: "local" is this process, one after another; for "ray" see `work_on_ray`."""

    name: Literal["local", "ray"] = "local"
    address: str | None = None
    cpus: int = 1


def reproduce(
    plan: Plan, out: Path, *, compute: Compute, launcher: Launcher, command: str, say: Say = print
) -> dict[str, str]:
    """Do the jobs of a plan that are not finished, and write its tables; returns why jobs failed, by name.

    The tables are written after each job, with what there is by then. Raises OptionError for an output
    folder of other settings.
    """
    keep(out, plan.settings)
    missing = write_tables(plan, out, command, {})
    say(f"{len(plan.jobs)} jobs, {missing} to do, in {out}")

    def after() -> None:
        write_tables(plan, out, command, {})

    if launcher.name == "ray":
        from crossband.reproduce.ray_launcher import work_on_ray

        failed = work_on_ray(
            plan.jobs, out, compute, say, after, address=launcher.address, cpus=launcher.cpus
        )
    else:
        failed = work(plan.jobs, out, compute, say, after)
    write_tables(plan, out, command, failed)
    return failed


def write_tables(plan: Plan, out: Path, command: str, failed: Mapping[str, str]) -> int:
    """Write the tables of a plan with what is finished; returns how many jobs are not."""
    for table in plan.tables:
        write_table(fill(table, plan, out, failed, {"command": command}), out / TABLES_NAME)
    return sum(state_of(out, job) != "finished" for job in plan.jobs.values())


def describe_plan(plan: Plan, out: Path, compute: Compute) -> str:
    """The jobs of a plan, what they wait for and how long they will take, as text. Nothing is written."""
    states = {name: state_of(out, job) for name, job in plan.jobs.items()}
    estimates = estimate_jobs(plan.jobs, out, compute)
    lines = []
    for name, job in plan.jobs.items():
        estimate = estimates.get(name)
        time = spoken_time(estimate.seconds) if estimate else "?"
        lines.append(f"{states[name]:<11} {time:>10}  {name}  {describe(job)}")
        lines += [f"{'':<24}reuses {need} as {phase}" for phase, need in job.reuses.items()]
        lines += [f"{'':<24}for {', '.join(job.rows)}"] if job.rows else []
    problems = dict.fromkeys(f"{name} {plan_row}: {problem}" for name, plan_row, problem in _problems(plan))
    lines += [f"{'not run':<24}{text}" for text in problems]
    left = [estimates[name] for name, state in states.items() if state != "finished" and name in estimates]
    counts = {state: list(states.values()).count(state) for state in dict.fromkeys(states.values())}
    spoken = ", ".join(f"{count} {state}" for state, count in counts.items())
    lines += ["", f"{len(plan.jobs)} jobs: {spoken or 'nothing to do'}"]
    if left:
        total = spoken_time(sum(estimate.seconds for estimate in left))
        origins = "; ".join(dict.fromkeys(estimate.origin for estimate in left))
        lines.append(f"about {total} of training on one worker, scoring not counted (judged by {origins})")
    return "\n".join(lines)


def _problems(plan: Plan) -> list[tuple[str, str, str]]:
    rows: Mapping[str, tuple[str, ...]] = {
        table.name: tuple(row.label for row in table.rows) for table in plan.tables
    }
    return [
        (name, rows[name][index], problem)
        for (name, index, _), problem in plan.problems.items()
        if problem != LEFT_OUT
    ]
