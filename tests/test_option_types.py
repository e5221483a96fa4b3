"""No option of any system takes NaN or infinity, however it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from crossband.cli import main
from crossband.errors import OptionError
from crossband.option_types import check_types
from crossband.pairs.augmentation import Augmentation
from crossband.recipe import Recipe
from crossband.systems import create, list_systems, loss_options, make_training, network_options, system_class
from tiny_systems import one_line

NOT_FINITE = [float("nan"), float("inf"), -float("inf")]


def holds_floats(hint: Any) -> bool:
    return hint is float or any(map(holds_floats, get_args(hint)))


def with_one(hint: Any, value: float) -> Any:
    """The number, or a list as long as the type wants it that ends with the number."""
    if get_args(hint) and hint.__class__.__name__ == "GenericAlias":
        return [1.0] * (len([a for a in get_args(hint) if a is not Ellipsis]) - 1) + [value]
    return value


def float_options(settings: type, known: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(settings)
    return {name: hints[name] for name in known if holds_floats(hints[name])}


NETWORK = {
    (name, option): hint
    for name in list_systems()
    for option, hint in float_options(system_class(name).built_from, network_options(name)).items()
}
LOSS = {
    (name, option): hint
    for name in list_systems()
    if system_class(name).trained_by is not None
    for option, hint in float_options(system_class(name).training_class(), loss_options(name)).items()
}


def test_the_options_that_are_held_here_are_there() -> None:
    assert ("csknet", "exchange_threshold") in NETWORK
    assert {("amdanet", "a1"), ("amdanet", "fusion_gamma"), ("amdanet", "tau")} <= set(LOSS) | set(NETWORK)


@pytest.mark.parametrize("value", NOT_FINITE)
def test_no_option_of_a_network_takes_it(value: float) -> None:
    for (name, option), hint in NETWORK.items():
        classes = 3 if system_class(name).segments else None
        with pytest.raises(OptionError, match=f"{name}.{option} must be ") as caught:
            create(name, classes, **{option: with_one(hint, value)})
        one_line(caught.value)


@pytest.mark.parametrize("value", NOT_FINITE)
def test_no_option_of_a_loss_takes_it(value: float) -> None:
    for (name, option), hint in LOSS.items():
        with pytest.raises(OptionError, match=f"{name}.{option} must be ") as caught:
            make_training(name, **{option: with_one(hint, value)})
        one_line(caught.value)


@pytest.mark.parametrize("settings", [Recipe, Augmentation])
def test_neither_recipe_nor_augmentation_takes_it(settings: type) -> None:
    for option, hint in get_type_hints(settings).items():
        if holds_floats(hint):
            with pytest.raises(OptionError, match=rf"of_it\.{option} must be finite"):
                check_types("of_it", get_type_hints(settings), {option: with_one(hint, float("nan"))})


@pytest.mark.parametrize("word", ["nan", ".nan", "inf", "-.inf"])
@pytest.mark.parametrize(
    ("system", "option"),
    [("csknet", "network.exchange_threshold"), ("amdanet", "loss.a1"), ("disoptnet", "recipe.lr")],
)
def test_nor_does_the_command_line(
    system: str, option: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", "scenes,train=2,val=0,test=1,size=32x48", "--out", str(tmp_path / "run")]
    assert main(["train", system, *data, f"--{option}={word}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert option.rpartition(".")[2] in line
    assert not (tmp_path / "run").exists()


def test_numbers_of_any_size_pass() -> None:
    hints = {"a": float, "b": tuple[float, float] | None, "c": list[float]}
    values = {"a": 1e300, "b": [0, -1e-300], "c": [0.5]}
    assert check_types("it", hints, values) == {"a": 1e300, "b": (0.0, -1e-300), "c": [0.5]}
