"""Train a small CSK-Net on a source of pairs, such as ``folder:my-pairs``, into a run folder.

python examples/train_small.py SOURCE RUN
"""

import sys

from crossband.training.engine import train
from crossband.training.options import TrainOptions


def main(source: str, run: str, epochs: int = 20) -> None:
    options = TrainOptions(
        system="csknet",
        data=source,
        out=run,
        encoder="mobilenetv3_small_050",
        network={"decoder_channels": 64},
        recipe={"name": "quick", "epochs": epochs, "batch_size": 4},
    )
    train(options)


if __name__ == "__main__":
    main(*sys.argv[1:])
