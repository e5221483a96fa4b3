"""Make one picture of a visible and an infrared image, without any training.

python examples/fuse_pair.py VISIBLE INFRARED OUT
"""

import sys

from PIL import Image

import crossband as cb


def main(visible: str, infrared: str, out: str) -> None:
    fused = cb.load("guided")(visible, infrared).fused
    Image.fromarray(fused).save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
