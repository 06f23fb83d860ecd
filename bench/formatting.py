"""Numbers in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any


def percent(share: float, digits: int = 1) -> str:
    """Return a share as percent, the field's custom; halves go up, in the decimal digits of the share.

    The page's script has the same rule, so that a number reads alike everywhere.

    Examples
    --------
    >>> percent(0.4625), percent(0.5765), percent(-0.0004), percent(0.001234, 2)
    ('46.3', '57.7', '0.0', '0.12')
    """
    if not math.isfinite(share):
        return str(share)
    power = 10**digits
    return f"{math.floor(round(share * 100 * power, 6) + 0.5) / power + 0.0:.{digits}f}"


def duration(seconds: float) -> str:
    """Return seconds in words: ``"45 s"``, ``"12 min"``, ``"3 h 20 min"``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def counted(number: int, one: str, several: str = "") -> str:
    """Return a number with its noun: ``"1 category"``, ``"3 categories"``; the plural adds an s where none is given."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def named(what: str, names: Iterable[object]) -> str:
    """Return names, each once, behind what they are; of many the first: ``"method a"``, ``"2 methods (a, b)"``."""
    different = list(dict.fromkeys(map(one_line, names)))
    if len(different) == 1:
        return f"{what} {different[0]}"
    plural = f"{what.removesuffix('y')}ies" if what.endswith("y") else f"{what}s"
    return f"{len(different)} {plural} ({', '.join(different[:6])}{', ...' if len(different) > 6 else ''})"


def some(names: Sequence[str], most: int = 3) -> str:
    """Return the first names, and how many more there are: ``"a, b, c and 4 more"``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def one_line(value: object) -> str:
    """Return a name or a message from outside as one line."""
    return " ".join(str(value).split())


def shown_path(path: Path) -> str:
    """Return a path as a user would type it: from the working folder where it lies in there."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def without_folders(value: Any) -> Any:
    """Return plain data with absolute paths in it reduced to their last part, for what travels to other machines.

    Examples
    --------
    >>> without_folders({"weights": "/models/a.pth", "sizes": [1, "b/c"]})
    {'weights': 'a.pth', 'sizes': [1, 'b/c']}
    """
    if isinstance(value, dict):
        return {key: without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_folders(inner) for inner in value]
    kind = next((k for k in (PurePosixPath, PureWindowsPath) if isinstance(value, str) and k(value).is_absolute()), None)
    return kind(value).name if kind else value
