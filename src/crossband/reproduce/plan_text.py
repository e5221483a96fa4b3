"""A plan as text: its jobs, what they wait for and how long they will take."""

from __future__ import annotations

from pathlib import Path

from crossband.reproduce.estimate import estimate_jobs
from crossband.reproduce.folders import state_of
from crossband.reproduce.jobs import LEFT_OUT, Plan
from crossband.reproduce.settings import Compute
from crossband.text import counted, spoken_time


def plan_text(plan: Plan, out: Path, compute: Compute) -> str:
    """The jobs of a plan, what they wait for and how long they will take, as text. Nothing is written."""
    states = {name: state_of(out, job) for name, job in plan.jobs.items()}
    estimates = estimate_jobs(plan.jobs, out, compute)
    lines = []
    for name, job in plan.jobs.items():
        estimate = estimates.get(name)
        time = spoken_time(estimate.seconds) if estimate else "?"
        lines.append(f"{states[name]:<11} {time:>10}  {name}  {job.switches}")
        lines += [f"{'':<24}reuses {need} as {phase}" for phase, need in job.reuses.items()]
        lines += [f"{'':<24}for {', '.join(job.rows)}"] if job.rows else []
    lines += [f"{'not run':<24}{text}" for text in _problems(plan)]
    left = [estimates[name] for name, state in states.items() if state != "finished" and name in estimates]
    counts = {state: list(states.values()).count(state) for state in dict.fromkeys(states.values())}
    spoken = ", ".join(f"{count} {state}" for state, count in counts.items())
    lines += ["", f"{counted(len(plan.jobs), 'job')}: {spoken or 'nothing to do'}"]
    if left:
        total = spoken_time(sum(estimate.seconds for estimate in left))
        origins = "; ".join(dict.fromkeys(estimate.origin for estimate in left))
        lines.append(f"about {total} of training on one worker, scoring not counted (judged by {origins})")
    return "\n".join(lines)


def _problems(plan: Plan) -> list[str]:
    """What cannot be run of what was asked for, each row once, whatever the benchmarks."""
    rows = {table.name: table.rows for table in plan.tables}
    problems = (
        f"{name} {rows[name][index].label}: {problem}"
        for (name, index, _), problem in plan.problems.items()
        if problem != LEFT_OUT
    )
    return list(dict.fromkeys(problems))
