"""Mutual information as a hill to climb, beside the edges that `crossband align` climbs: for `rig.py` only.

Climbing it is maximum likelihood with a density that is read from the pictures themselves (Roche 2000): the
slope at a pixel is how much likelier its visible level becomes, given the infrared one, as the level changes,
and the outer product of these slopes is the curvature (Fisher).
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from crossband.rig.estimating import Estimate
from crossband.rig.evidence import corner_errors
from crossband.rig.geometry import PARAMETERS, Model
from crossband.rig.information import InformationLevel, joint_histogram, share_told
from crossband.rig.refinement import FEWEST_PIXELS, PicturePair, Slope

_SETTINGS = (640, 2, 1.5)
"""Width, step and pool of the last level that the edges are climbed on."""


def refined_by_information(pairs: list[PicturePair], found: Estimate) -> Estimate:
    """Where mutual information has its summit near an estimate, and how sure that is."""
    level = InformationHill(pairs, *_SETTINGS)
    homography, score = level.refined(found.homography, found.model)
    errors = corner_errors(level, homography, found.model)
    return replace(found, homography=homography, score=score, corner_errors=errors)


class InformationHill(InformationLevel):
    """Scores of `told`, and their slopes."""

    def slope_of(
        self,
        index: int,
        features: np.ndarray,
        there: np.ndarray,
        inside: np.ndarray,
        model: Model,
        keep: np.ndarray | None = None,
    ) -> Slope:
        infrared, visible, both = self.overlaid(index, features, there, inside)
        if keep is not None:
            both = both * keep
        count = PARAMETERS[model]
        used = both > 0
        if used.sum() < FEWEST_PIXELS:
            return Slope(-1.0, np.zeros(count), np.zeros((count, count)))
        visible = visible.reshape(both.shape)
        a, b = infrared[..., 0][used], visible[used]
        joint = joint_histogram(a, b)
        of_a, of_b = joint.sum(axis=1), joint.sum(axis=0)
        entropy = float(-(of_a * np.log(of_a)).sum())
        score = share_told(joint)
        if score == 0:
            return Slope(0.0, np.zeros(count), np.zeros((count, count)))
        likelihood = np.log(joint) - np.log(of_b)
        # How a pixel's log likelihood changes with its visible level.
        table = np.gradient(likelihood, axis=1).astype(np.float32)
        change = cv2.remap(table, visible, infrared[..., 0], cv2.INTER_LINEAR)[used]
        x, y = (one.reshape(both.shape)[used] for one in self.differences(visible))
        ways = self.ways(model)[used]
        pull = (ways[:, 0] * x[:, None] + ways[:, 1] * y[:, None]) * change[:, None]
        pull = pull.astype(np.float64)
        scale = 1 / (len(a) * entropy)
        return Slope(score, scale * pull.sum(axis=0), scale * (pull.T @ pull))
