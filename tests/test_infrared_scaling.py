"""Infrared scaling: the rules worked by hand, and their texts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossband.errors import OptionError
from crossband.pairs.infrared_scaling import InfraredScaling


class TestScaling:
    @given(
        st.sampled_from(["percentile", "fixed"]),
        st.tuples(st.floats(0, 100), st.floats(0, 100)).map(sorted).filter(lambda pair: pair[0] < pair[1]),
    )
    def test_text_round_trips(self, rule: str, limits: list[float]) -> None:
        scaling = InfraredScaling.parse(f"{rule}({limits[0]!r},{limits[1]!r})")
        assert scaling.limits == tuple(limits)
        assert InfraredScaling.parse(str(scaling)) == scaling

    @pytest.mark.parametrize("text", ["full-range", "minmax", "percentile(1, 99)", "fixed(29315.25, 31000)"])
    def test_canonical_text(self, text: str) -> None:
        assert str(InfraredScaling.parse(text)) == text
        assert str(InfraredScaling.parse(f" {text.replace('(', ' ( ')} ")) == text

    @pytest.mark.parametrize(
        "text",
        ["", "max", "minmax(0, 1)", "percentile", "percentile(1)", "percentile(-1, 99)", "percentile(1, 101)",
         "fixed(3, 3)", "fixed(4, 3)", "fixed(a, b)", "fixed(0, inf)", "fixed(nan, 1)",
         "fixed(0, 1", "fixed(0, 1, 2)"],
    )  # fmt: skip
    def test_wrong_text(self, text: str) -> None:
        with pytest.raises(OptionError):
            InfraredScaling.parse(text)

    def test_worked_by_hand(self) -> None:
        raw = np.array([[0, 10], [20, 40]], np.uint16)
        expected = {
            "full-range": [[0, 10 / 65535], [20 / 65535, 40 / 65535]],
            "minmax": [[0, 0.25], [0.5, 1]],
            "fixed(10, 30)": [[0, 0], [0.5, 1]],
            # Linear interpolation over 4 values: the 25th percentile is 7.5, the 75th is 25.
            "percentile(25, 75)": [[0, 2.5 / 17.5], [12.5 / 17.5, 1]],
        }
        for text, values in expected.items():
            scaled = InfraredScaling.parse(text)(raw)
            assert scaled.dtype == np.float32
            np.testing.assert_allclose(scaled, values, rtol=1e-6, err_msg=text)

    @pytest.mark.parametrize("text", ["minmax", "percentile(1, 99)"])
    def test_a_constant_image_becomes_zeros(self, text: str) -> None:
        assert not InfraredScaling.parse(text)(np.full((3, 4), 500, np.uint16)).any()

    def test_small_steps_on_a_large_offset_survive(self) -> None:
        raw = 1e6 + np.linspace(0, 1, 11)
        np.testing.assert_allclose(InfraredScaling("minmax")(raw), np.linspace(0, 1, 11), atol=1e-6)
