"""Street scenes generated from a seed: both bands and the label rendered from one model of the world.

A test bed and a demo. Scores on these scenes say nothing about real cameras.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

from crossband.errors import OptionError, quoted
from crossband.pairs.base import Pair, Pairs
from crossband.pairs.image_files import LIMIT_VARIABLE, max_image_bytes
from crossband.pairs.scenes.surfaces import SCENE_CLASSES
from crossband.pairs.scenes.weather import CONDITIONS
from crossband.words import BANDS

__all__ = [
    "CAMERAS",
    "CONDITIONS",
    "SCENE_CLASSES",
    "SMALLEST_SIDE",
    "Cameras",
    "Scenes",
    "parse_scene_options",
    "render_scene",
    "scene_splits",
]

Cameras = Literal["fixed", "varied"]
CAMERAS: tuple[Cameras, ...] = get_args(Cameras)
"""``fixed``: one visible and one infrared camera, aligned, draw all scenes. ``varied``: every scene has two
of its own, a little misaligned."""
SMALLEST_SIDE = 16
_SPLIT_ROOM = 1 << 30
_MOST_SCENES = 1_000_000
"""Of a split: what is made on the spot is asked for by a typing error sooner than meant."""
_BYTES_OF_PIXEL = 100
"""What rendering takes for one pixel, measured from 1 to 4 million of them."""
_MOST_DIGITS = 18
"""Of an option: all that 64 bits hold, and fewer than Python refuses to read."""
_SPLITS = {"train": 0, "val": 1, "test": 2}
_DEFAULTS = {"seed": "0", "train": "200", "val": "50", "test": "100", "size": "240x320", "cameras": "fixed"}


def render_scene(
    seed: int,
    index: int,
    size: tuple[int, int],
    condition: str | None = None,
    *,
    cameras: Cameras = "fixed",
) -> Pair:
    """Render one scene.

    The street, and so the label, depends on (seed, index) alone: the conditions differ in light, air and
    heat, and the size differs in sampling. On one machine the result is the same byte for byte whatever else
    runs; another processor may differ in single levels.

    Args:
        seed: which set of scenes, from 0.
        index: which scene of the set, from 0.
        size: (height, width) in pixels, each at least 16.
        condition: one of ``CONDITIONS``, or None to draw one.
        cameras: one of ``CAMERAS``.

    Returns:
        A pair with visible float32 (H, W, 3) and infrared float32 (H, W), both multiples of 1/255 in
        [0, 1] (so 8-bit files keep them exactly), label uint8 (H, W), and its condition.

    Raises:
        OptionError: a negative seed or index, a side under 16 pixels, an unknown condition or other cameras.
    """
    _check_start("index", index)
    _check_start("seed", seed)
    _check_size(size)
    _check_conditions([condition] if condition is not None else [])
    _check_cameras(cameras)
    # OpenCV is loaded on the first picture, so that `crossband --help` does without it.
    from crossband.pairs.scenes.render import render

    return render(seed, index, (int(size[0]), int(size[1])), condition, varied=cameras == "varied")


class Scenes(Pairs):
    """A split of generated street scenes, rendered on access.

    No scene is in two splits. The conditions take turns, so each has its share of every split.
    """

    def __init__(
        self,
        split: str,
        *,
        seed: int = 0,
        count: int,
        size: tuple[int, int] = (240, 320),
        conditions: Sequence[str] = CONDITIONS,
        cameras: Cameras = "fixed",
    ):
        """Raise OptionError if the split is none of train, val, test, or an option does not fit."""
        if split not in _SPLITS:
            raise OptionError(f"scenes: no split {quoted(split)}; choose one of {', '.join(_SPLITS)}")
        if not 0 <= count <= _MOST_SCENES:
            raise OptionError(f"scenes: {split} must have 0 to {_MOST_SCENES} scenes, not {count}")
        if not conditions:
            raise OptionError(f"scenes: conditions is empty; choose from {', '.join(CONDITIONS)}")
        _check_start("seed", seed)
        _check_size(size)
        _check_conditions(conditions)
        _check_cameras(cameras)
        self.source = "scenes"
        self.split = split
        self.classes = SCENE_CLASSES
        self.bands = BANDS
        self.seed = seed
        self.count = count
        self.size = size
        self.conditions = tuple(conditions)
        self.cameras: Cameras = cameras

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Pair:
        """Render one pair. Raises IndexError outside the split."""
        position = self._position(index)
        scene = _SPLITS[self.split] * _SPLIT_ROOM + position
        pair = render_scene(self.seed, scene, self.size, self.condition(position), cameras=self.cameras)
        return replace(pair, name=self.name(position))

    def name(self, index: int) -> str:
        """``00012_night``: the position in the split, and the condition."""
        position = self._position(index)
        return f"{position:05d}_{self.condition(position)}"

    def condition(self, index: int) -> str:
        """One of ``CONDITIONS``."""
        return self.conditions[self._position(index) % len(self.conditions)]

    def _position(self, index: int) -> int:
        if not -self.count <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        return index % self.count


def parse_scene_options(options: Mapping[str, str]) -> dict:
    """Read the options of ``--data scenes:...``.

    Keys: seed; train, val, test (how many scenes; 200, 50, 100); size (``HxW``, 240x320); conditions
    (names joined by ``+``, all by default); cameras (one of ``CAMERAS``). Every key has a default.

    Returns:
        {"seed": int, "train": int, "val": int, "test": int, "size": (H, W), "conditions": (name, ...),
        "cameras": name}

    Raises:
        OptionError: an unknown key, a value that cannot be read, or one that is too large.
    """
    known = (*_DEFAULTS, "conditions")
    for key in options:
        if key not in known:
            raise OptionError(f"scenes: no option {quoted(key)}; choose from {', '.join(known)}")
    text = {**_DEFAULTS, "conditions": "+".join(CONDITIONS), **options}
    parsed: dict = {key: _whole_number(key, text[key]) for key in ("seed", *_SPLITS)}
    height, _, width = text["size"].partition("x")
    parsed["size"] = (_whole_number("size", height), _whole_number("size", width))
    _check_size(parsed["size"])
    parsed["conditions"] = tuple(text["conditions"].split("+"))
    _check_conditions(parsed["conditions"])
    _check_cameras(text["cameras"])
    parsed["cameras"] = text["cameras"]
    return parsed


def scene_splits(options: Mapping[str, str]) -> dict[str, int]:
    """How many scenes each split has under these options. Raises OptionError as ``parse_scene_options``."""
    parsed = parse_scene_options(options)
    return {split: parsed[split] for split in _SPLITS}


def _whole_number(key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        form = "HxW, such as 240x320" if key == "size" else "a whole number from 0"
        raise OptionError(f"scenes: {key}={quoted(text)} cannot be read; give {form}")
    return int(text)


def _check_start(name: str, value: int) -> None:
    if value < 0:
        raise OptionError(f"scenes: {name} starts at 0, not {value}")


def _check_size(size: tuple[int, int]) -> None:
    if min(size) < SMALLEST_SIDE:
        raise OptionError(
            f"scenes: size {size[0]}x{size[1]}: a side must have {SMALLEST_SIDE} pixels or more"
        )
    most = max_image_bytes() // _BYTES_OF_PIXEL
    if size[0] * size[1] > most:
        raise OptionError(
            f"scenes: size {size[0]}x{size[1]} has more than the {most} pixels that can be rendered within "
            f"{LIMIT_VARIABLE}; choose a smaller one"
        )


def _check_conditions(conditions: Sequence[str]) -> None:
    for condition in conditions:
        if condition not in CONDITIONS:
            raise OptionError(
                f"scenes: no condition {quoted(condition)}; choose from {', '.join(CONDITIONS)}"
            )


def _check_cameras(cameras: str) -> None:
    if cameras not in CAMERAS:
        raise OptionError(f"scenes: no cameras {quoted(cameras)}; choose from {', '.join(CAMERAS)}")
