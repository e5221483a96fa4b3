"""Score a run on labelled pairs, with both bands and with one, and say how sure each score is.

python examples/evaluate_run.py RUN SOURCE
"""

import sys

import crossband as cb


def main(run: str, source: str) -> None:
    predictor = cb.load(run)
    pairs = cb.open_pairs(source, "test", infrared_scaling=predictor.card.infrared_scaling)
    found = cb.evaluate(predictor.system, pairs, bands=list(predictor.system.supports))
    for bands, result in found.results.items():
        interval = found.intervals[bands]["present"]
        print(
            f"{bands} ({result.support}): {100 * interval.value:.1f} % mean IoU, "
            f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
