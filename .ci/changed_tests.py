"""Which slow tests go with what changed lately: a pytest expression (``-k``), or nothing.

    python .ci/changed_tests.py          # make test-changed

Lately is the last four hours, and at least the last commit: who works for longer is taken to have run it in
between. A system's slow tests are those whose names hold its own (tests/test_NAME_training.py)
and its export to ONNX; so for reproduce and export. What all systems use would ask for all of them; two
stand for the others, since continuous integration has to stay short: CSK-Net, convolutional, in
two phases, with a frozen teacher, an exchange and tied weights; and AMDANet, a transformer in one phase,
which segments and fuses. `make test-slow` runs all.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

REPRESENTATIVE = ("csknet", "amdanet")
LATELY = "4 hours"
SEVERAL = {
    "cddfuse": ("cddfuse", "learned"),
    "classical": ("average", "guided", "laplacian", "maximum"),
    "luma_fusion": ("average", "guided", "laplacian", "learned", "maximum"),
}
"""The systems that a module of `crossband.systems` is for, where that is not the one of its name."""
EXPORTED_ANYWAY = "csknet"
"""Its export to ONNX is not slow."""
ALL_SYSTEMS = "test_it_overfits"
"""Every system has one such test."""

_COMMON = re.compile(
    r"src/crossband/(blocks|losses|training)/.*"
    r"|src/crossband/systems/(__init__|base|creation|registry)\.py"
    r"|src/crossband/pairs/(augmentation|batch|loading)\.py"
    r"|src/crossband/(recipe|tensors|option_types|weights)\.py"
    r"|tests/overfitting\.py"
)
_EXPORT = re.compile(r"src/crossband/(export|runtime)/.*")
_SYSTEM = re.compile(r"src/crossband/systems/([a-z0-9_]+)[./].*|tests/test_([a-z0-9]+)_training\.py")


def expression(paths: Iterable[str]) -> str:
    """The slow tests of some changed files, by their paths in the repository; empty for none."""
    names: set[str] = set()
    exported: set[str] = set()
    for path in paths:
        if _COMMON.fullmatch(path):
            names |= {*REPRESENTATIVE}
            if path.startswith("src/crossband/training/"):
                names.add("training.py")
            elif path.startswith("src/crossband/blocks/"):
                exported |= {*REPRESENTATIVE}
        elif _EXPORT.fullmatch(path):
            names.add("export.py")
        elif match := _SYSTEM.fullmatch(path):
            names.add(match[1] or match[2])
            exported |= {*SEVERAL.get(match[1], (match[1],))}
        elif path.startswith("src/crossband/reproduce/"):
            names.add("reproduce")
    exported -= {None, EXPORTED_ANYWAY}
    wanted = [f"test_{name}" for name in sorted(names)] + [f"onnx and {name}" for name in sorted(exported)]
    chosen = " or ".join(wanted)
    return f"({chosen}) and not compilation" if chosen else ""


def git(folder: Path, *arguments: str) -> str:
    """What git answers. Raises CalledProcessError, with git's own words, where it cannot."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def base_commit(folder: Path) -> str | None:
    """The commit to compare with, or None where there is none: in a first commit, or in a shallow clone."""
    before = git(folder, "rev-list", "-1", f"--before={LATELY} ago", "HEAD")
    # Where nothing was committed since, it is the last commit itself.
    if before and before != git(folder, "rev-parse", "HEAD"):
        return before
    try:
        return git(folder, "rev-parse", "--verify", "--quiet", "HEAD~1")
    except subprocess.CalledProcessError:
        return None


def main(folder: Path) -> int:
    try:
        base = base_commit(folder)
        if base is None:
            print("no earlier commit to compare with: the slow test of every system", file=sys.stderr)
            print(ALL_SYSTEMS)
            return 0
        chosen = expression(git(folder, "diff", "--name-only", base, "HEAD").splitlines())
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        print(f"what changed cannot be told: {said[0]}", file=sys.stderr)
        return 1
    since = f"since {base[:7]}"
    print(f"{since}: {chosen or 'nothing changed that has slow tests'}", file=sys.stderr)
    if chosen:
        print(chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parents[1]))
