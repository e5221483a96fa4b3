"""What a band monitor looks at: the same numbers wherever the images lie in memory."""

from __future__ import annotations

import numpy as np

from crossband.pairs.image_statistics import pair_statistics
from crossband.pairs.scenes import Scenes


def test_statistics_do_not_hang_on_where_images_lie() -> None:
    """Else two fits of a monitor on the same pairs differ, by far more than the statistics do."""
    scenes, rng = Scenes("test", count=4, size=(48, 64)), np.random.default_rng(0)
    for pair in (scenes[index] for index in range(4)):
        assert pair.visible is not None
        assert pair.infrared is not None
        first = pair_statistics(pair.visible, pair.infrared)
        taken = []
        for _ in range(40):
            # What is made in the function comes to lie elsewhere each time.
            taken.append(np.empty(rng.integers(1, 10_000), np.float32))
            taken = taken[-20:]
            assert pair_statistics(pair.visible.copy(), pair.infrared.copy()) == first
