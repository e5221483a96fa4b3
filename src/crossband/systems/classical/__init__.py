"""Classical fusions, which need no training: average, maximum, Laplacian pyramid, guided filter."""

from crossband.systems.classical.systems import Average, Guided, Laplacian, Maximum

__all__ = ["Average", "Guided", "Laplacian", "Maximum"]
