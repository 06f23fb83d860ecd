"""Settings as YAML, read as a person means them: what versions of YAML read differently is an error; so is a key given twice."""

from __future__ import annotations

import datetime
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from anoseg_bench.errors import UsageError

_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((f"{sign}.{word}" for sign in ("", "+") for word in ("inf", "Inf", "INF")), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_OTHER_BASE = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")}


@dataclass
class Document:
    """What a YAML text holds.

    Attributes
    ----------
    value : Any
        Its value; every key is text.
    lines : dict of tuple of str to int
        The line of each key, by the keys that lead to it.
    """

    value: Any = None
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)


def parse_value(text: str, where: str) -> Any:
    """Return the value of ``key=value`` as YAML reads it: numbers, true, null, [lists]; else the text.

    Parameters
    ----------
    where : str
        Where it is from, for messages: ``"--set ae_recon.steps=020"``.

    Raises
    ------
    UsageError
        If versions of YAML read it differently, or a key in it is given twice.
    """
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        return text
    if node is None or text[: node.start_mark.index].strip() or text[node.end_mark.index :].strip():
        return text or None  # what YAML takes for a comment is part of the value here
    return _Reader(where).value(node)


def read_yaml(file: Path) -> Document:
    """Return what a YAML file holds, with the lines of its keys.

    Raises
    ------
    UsageError
        If it cannot be read, versions of YAML read a value differently, or a key is given twice.
    """
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"Expected a YAML file in --config, but '{file}' cannot be read ({reason}).") from error
    reader = _Reader(f"'{file}'", in_file=True)
    return Document(None if node is None else reader.value(node), reader.lines)


class _Reader:
    """Makes values of the nodes of one text."""

    def __init__(self, where: str, in_file: bool = False) -> None:
        self.where, self.in_file = where, in_file
        self.lines: dict[tuple[str, ...], int] = {}
        self._known: dict[int, Any] = {}  # by node: an alias stands for the value of its anchor
        self._open: set[int] = set()

    def value(self, node: yaml.Node, path: tuple[str, ...] = ()) -> Any:
        """Return the value of a node, which `path` leads to."""
        if node.tag not in _PLAIN:
            raise self.error(node, f"the tag '{node.tag.replace('tag:yaml.org,2002:', '!!')}' is not known here; leave it out")
        if isinstance(node, yaml.ScalarNode):
            return node.value if node.style else self._plain(node)
        if id(node) in self._open:
            raise self.error(node, "the value contains itself, by an alias; write it out")
        if id(node) not in self._known:
            self._open.add(id(node))
            self._known[id(node)] = (
                [self.value(inner, path) for inner in node.value]
                if isinstance(node, yaml.SequenceNode)
                else self._mapping(node, path)
            )
            self._open.remove(id(node))
        return self._known[id(node)]

    def error(self, node: yaml.Node, what: str) -> UsageError:
        """Return the error about a node."""
        line = f", line {node.start_mark.line + 1}" if self.in_file else ""
        return UsageError(f"{self.where}{line}: {what}.")

    def _mapping(self, node: yaml.Node, path: tuple[str, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, inner in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.error(key_node, "expected a name before the colon, but got a list or a mapping")
            key = key_node.value
            if not key_node.style:
                if key == "<<":
                    raise self.error(key_node, "'<<' merges mappings in YAML 1.1 only; write the keys out")
                self._plain(key_node)
            whole = (*path, key)
            if key in values:
                first = f" (first in line {self.lines[whole]})" if self.in_file else ""
                raise self.error(key_node, f"'{'.'.join(whole)}' is given twice{first}; keep one")
            self.lines[whole] = key_node.start_mark.line + 1
            values[key] = self.value(inner, whole)
        return values

    def _plain(self, node: yaml.Node) -> Any:
        """Return the value of a scalar without quotes."""
        text = node.value
        now, before = _core(text), _yaml_1_1(text)
        same = repr(now) == repr(before)
        written_as_number = isinstance(now, float) and isinstance(before, str)  # 1e-3, which older versions take for text
        if (same or written_as_number) and not _LEADING_ZERO.fullmatch(text):
            return now
        readings = {_written(value): None for value in (before, now) if isinstance(value, bool | int | float)}
        plain = f"write {' or '.join(readings)}, or put it in quotes for text" if readings else "put it in quotes for text"
        several = ", as ".join([*readings, "a date"] if isinstance(before, datetime.date) else readings)
        raise self.error(node, f"'{text}' is read as {several} or as text, depending on the version of YAML; {plain}")


def _core(text: str) -> Any:
    """Return the value of a plain scalar in the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _OTHER_BASE.fullmatch(text):
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) else text


def _yaml_1_1(text: str) -> Any:
    """Return the value of a plain scalar in YAML 1.1; the text where it has the form of a number or a date and is none."""
    loader = yaml.SafeLoader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))
    try:
        return loader.construct_object(yaml.ScalarNode(tag, text)) if tag.rpartition(":")[2] not in ("merge", "value") else text
    except ValueError:
        return text


def _written(value: bool | float) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value!r}"
