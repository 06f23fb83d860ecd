"""Work one step ahead of its use: images are read and resized while a method predicts those before them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(source: Iterator[T]) -> Iterator[T]:
    """Yield what an iterator yields, the next one made by a thread of its own meanwhile; an error comes at its place.

    It helps where making and using both let go of Python's lock, as decoding, resizing and torch do. Two at most are there at once.
    """
    end = object()
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(next, source, end)
        while (made := coming.result()) is not end:
            coming = maker.submit(next, source, end)
            yield made  # type: ignore[misc]
