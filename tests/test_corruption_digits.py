"""Corruptions are the same to the last bit on every machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from PIL import features

from corruption_checksums import DRAWN, checksums

SCRIPT = Path(__file__).parent / "corruption_checksums.py"

# Printed by `python tests/corruption_checksums.py`: what every machine has to give.
CHECKSUMS = {
    "low-light": "afc540d0a4f17f8f",
    "over-exposure": "90c33d82576ddd1b",
    "glare": "6e28e5412f92f854",
    "fog": "c43cadfc2d6221e2",
    "rain": "a977b5d38a21687f",
    "motion-blur": "0e87cbf2d4f9c223",
    "defocus": "aea47706d7b0d405",
    "jpeg": "6d9a4b2fe5115f3f",
    "colour-cast": "eb93da439caf53ff",
    "dirt": "d6988458965001fe",
    "contrast-collapse": "807c5dc4ecedb435",
    "saturation": "838bee56c59acc83",
    "fixed-pattern": "1b44660341ccbc98",
    "column-noise": "ce40ea0e64e52a2a",
    "dead-pixels": "df2d25f531cf211c",
    "dead-rows": "c06a17ba487f3180",
    "blur": "43eb42ff08eed9f7",
    "halo": "9fb7d2c4f3b2c421",
    "shift": "8c10f4424bdbd2f0",
    "homography": "1c53ff685aa42db2",
    "scale": "24eca4d14bd280f4",
}


def opencv_features() -> str:
    """What OpenCV has code for and this processor can do: those with a star and without a question mark."""
    told = cv2.getCPUFeaturesLine().split()
    return ",".join(["FMA3", *(name[1:] for name in told if name[0] == "*" and name[-1] != "?")])


def numpy_features() -> str:
    from numpy._core import _multiarray_umath as core

    return " ".join(name for name in core.__cpu_dispatch__ if core.__cpu_features__[name])


MACHINES = {
    "OpenCV for a plain processor": {"OPENCV_CPU_DISABLE": opencv_features()},
    "OpenCV without Intel's library": {"OPENCV_IPP": "disabled"},
    "NumPy for a plain processor": {"NPY_DISABLE_CPU_FEATURES": numpy_features()},
    "C's mathematics and libjpeg for a plain processor": {
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA",
        "JSIMD_FORCENONE": "1",
    },
}
"""Variables, by what they turn this machine into; all are read before the first line of ours."""


def test_checksums_are_what_they_are_on_every_machine() -> None:
    told = checksums()
    assert told.keys() == CHECKSUMS.keys() == set(DRAWN)
    # Other libraries than libjpeg-turbo, which Pillow brings along, decode JPEG with other roundings.
    compared = [name for name in DRAWN if name != "jpeg" or features.check_feature("libjpeg_turbo")]
    assert {name: told[name] for name in compared} == {name: CHECKSUMS[name] for name in compared}


@pytest.mark.parametrize("machine", MACHINES)
def test_checksums_do_not_depend_on_what_the_processor_can_do(machine: str) -> None:
    command = [sys.executable, str(SCRIPT)]
    ran = subprocess.run(
        command, env=os.environ | MACHINES[machine], capture_output=True, text=True, timeout=120, check=True
    )
    assert json.loads(ran.stdout) == checksums()
