"""Numbers in words."""

from __future__ import annotations

from pathlib import Path


def duration(seconds: float) -> str:
    """Return seconds in words: ``"45 s"``, ``"12 min"``, ``"3 h 20 min"``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def counted(number: int, one: str, several: str = "") -> str:
    """Return a number with its noun: ``"1 category"``, ``"3 categories"``; the plural adds an s where none is given."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def one_line(value: object) -> str:
    """Return a name or a message from outside as one line."""
    return " ".join(str(value).split())


def shown_path(path: Path) -> str:
    """Return a path as a user would type it: from the working folder where it lies in there."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
