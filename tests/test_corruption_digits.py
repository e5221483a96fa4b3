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
    "low-light": "c4fb75bf7e582e8d",
    "over-exposure": "5c5b55d8b23fc17c",
    "glare": "0296db06bed59ec6",
    "fog": "521b5ff5028031ca",
    "rain": "adb8472209e79d5d",
    "motion-blur": "ec3d31a853fb56f9",
    "defocus": "ff758bb47e986f29",
    "jpeg": "c13820213218a230",
    "colour-cast": "bb8b232b88ea822b",
    "dirt": "0974835078912b2a",
    "contrast-collapse": "75ae1ff3960d1528",
    "saturation": "e5a8f0f915357467",
    "fixed-pattern": "bbe08c9db1e2b6f1",
    "column-noise": "7003f652c02bcbad",
    "dead-pixels": "d93f807e850f2b3a",
    "dead-rows": "107e815408477a85",
    "blur": "a624a74d522a1985",
    "halo": "6e840589d4115b8b",
    "shift": "58ed9b3271ef6357",
    "homography": "bd03c2c67acf2ff2",
    "scale": "16ca485acc67b72b",
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
