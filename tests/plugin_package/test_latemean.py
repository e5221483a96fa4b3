"""All the tests that a system of another package needs."""

from crossband.testing import SystemContract


class TestLateMean(SystemContract):
    system = "latemean"
    small = {"encoder": "test_efficientnet", "decoder_channels": 16}  # noqa: RUF012
