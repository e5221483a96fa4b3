"""CEN (TPAMI 2022): two streams that trade channels."""

from crossband.systems.cen.network import CEN

__all__ = ["CEN"]
