"""Make the weights that come with the system ``learned``, of a run of CDDFuse's variant ``light``.

    python speed/pack_learned.py RUN [--out FILE]

Rounds the run's fusion network to half precision, and writes it with where it comes from in the file's
metadata: the run's data, seed, losses, version and licence. Without --out it takes the place of the file in
the package.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from safetensors.torch import save

from crossband.errors import CrossbandError
from crossband.pairs.writing import replacing
from crossband.systems.cddfuse import CDDFuse
from crossband.systems.cddfuse.learned import WEIGHTS, fusion_network
from crossband.weights import load_run

LICENCE = "Apache-2.0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run of cddfuse, variant light")
    parser.add_argument("--out", type=Path, default=WEIGHTS, metavar="FILE")
    options = parser.parse_args()
    try:
        system, card = load_run(options.run)
    except CrossbandError as error:
        parser.error(str(error))
    if not isinstance(system, CDDFuse):
        parser.error(f"{options.run} is a run of {system.name}, not of cddfuse")
    weights = {name: weight.half().contiguous() for name, weight in system.fusion.state_dict().items()}
    try:
        fusion_network().load_state_dict(weights)
    except RuntimeError:
        parser.error(f"{options.run} is a run of cddfuse with another network than that of the variant light")
    training = card.training
    origin = {
        "licence": LICENCE,
        "data": training["data"],
        "seed": str(training["seed"]),
        "recipe": json.dumps(training["recipes"]["fusion"], sort_keys=True),
        "loss": json.dumps(card.loss, sort_keys=True),
        "crossband": card.crossband,
        "git_revision": str(card.git_revision),
    }
    with replacing(options.out) as temporary:
        temporary.write_bytes(save(weights, origin))
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
