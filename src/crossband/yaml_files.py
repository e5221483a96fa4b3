"""The one reader of YAML: plain values, bounded in size and depth, and nothing that refers to something else.

YAML can say much more than a list of classes or of options needs: aliases that expand without end, tags that
choose a type, keys that merge mappings, texts that turn into dates. None of it is taken here, so a stranger's
file can be slow, large or surprising in no way.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from crossband.errors import OptionError, first_line, quoted

MOST_BYTES = 1 << 20
"""Of a file. The longest that Crossband writes holds some thousand."""
MOST_LEVELS = 32
"""Of lists and mappings within each other."""
_LONGEST_NUMBER = 64
"""In characters; Python takes long over integers of a million digits, and refuses to spell them."""

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_NOT_TAKEN = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")
"""What a plain text may turn into in YAML, and stays a text here: dates, ``<<`` and ``=``."""


class _Loader(_Base):
    """Builds null, booleans, numbers, texts, lists and mappings; a key that occurs twice is an error."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NOT_TAKEN]
        for first, resolvers in _Base.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            keys = [self.construct_object(key) for key, _ in node.value]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {quoted(twice)} occurs twice", node.start_mark
            )
        return mapping


class _Dumper(yaml.SafeDumper):
    """Writes a list that occurs twice twice, where YAML would refer to the first one."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def read_yaml(path: Path) -> Any:
    """The values of a YAML file: null, booleans, numbers, texts, and lists and mappings of them.

    Dates stay texts. Raises OptionError, naming the file, if it cannot be read, is longer than `MOST_BYTES`,
    is deeper than `MOST_LEVELS`, or holds anchors, aliases, tags, a key twice or no YAML at all.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise OptionError(
            f"{path}: cannot be read ({error.strerror}); correct the path or its rights"
        ) from error
    try:
        return parse_yaml(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise OptionError(f"{path}: is no text in UTF-8; save it as UTF-8") from error
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error.__cause__


def parse_yaml(text: str) -> Any:
    """The values of a YAML text, as `read_yaml` takes them. Raises OptionError; it names no file."""
    check_yaml(text)
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise _no_yaml(error) from error


def yaml_text(values: Any, *, lists_in_one_line: bool = False) -> str:
    """The YAML that `parse_yaml` reads back as these values, keys in their order; no anchors, ever."""
    style = None if lists_in_one_line else False
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=style, allow_unicode=True)


def check_yaml(text: str) -> None:
    """Look through a YAML text without building anything. Raises OptionError for what `read_yaml` refuses."""
    if len(text.encode(errors="replace")) > MOST_BYTES:
        raise OptionError(f"more than {MOST_BYTES >> 10} KiB of YAML; remove what does not belong there")
    level = 0
    try:
        for event in yaml.parse(text, Loader=_Base):
            if isinstance(event, yaml.CollectionEndEvent):
                level -= 1
            elif isinstance(event, yaml.NodeEvent):
                _check_node(event)
                level += isinstance(event, yaml.CollectionStartEvent)
                if level > MOST_LEVELS:
                    raise OptionError(
                        f"{_line_of(event)}: more than {MOST_LEVELS} lists and mappings within each other; "
                        "write it flatter"
                    )
    except (yaml.YAMLError, ValueError) as error:
        raise _no_yaml(error) from error


def _check_node(event: yaml.NodeEvent) -> None:
    if event.anchor is not None:
        raise OptionError(
            f"{_line_of(event)}: anchors and aliases (& and *) are not taken; write the value out"
        )
    tag = getattr(event, "tag", None)
    if tag is not None:
        raise OptionError(f"{_line_of(event)}: the tag {quoted(tag)} is not taken; write the plain value")
    if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and len(event.value) > _LONGEST_NUMBER:
        resolvers = _Base.yaml_implicit_resolvers.get(event.value[0], [])
        if any(tag in _NUMBERS and pattern.match(event.value) for tag, pattern in resolvers):
            raise OptionError(
                f"{_line_of(event)}: a number of {len(event.value)} characters; put texts into quotes"
            )


def _line_of(event: Any) -> str:
    return f"line {event.start_mark.line + 1}"


def _no_yaml(error: Exception) -> OptionError:
    problem = getattr(error, "problem", None) or first_line(error)
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark is not None else ""
    return OptionError(
        f"{where}is no YAML that can be read ({problem}); correct it, or put texts into quotes"
    )
