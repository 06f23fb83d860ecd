"""Files that are written whole or not at all, one by one or together."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the system in the block name the file, which that of a write does not do by itself."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_file(path: Path, content: bytes | str) -> Path:
    """Write a file, text as UTF-8, and return its path; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        path.write_bytes(content.encode("utf-8", "replace") if isinstance(content, str) else content)
    return path


def write_by(path: Path, write: Callable[[IO[bytes]], object]) -> Path:
    """Write with a library into memory and then to the file: a full disk is an OSError, whatever the library would make of it."""
    content = BytesIO()
    write(content)
    return write_file(path, content.getvalue())


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all."""
    with written_whole(path) as file:
        file.write(content.encode("utf-8", "replace") if isinstance(content, str) else content)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Give a file that becomes `path` when the block ends well, and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".tmp-{uuid.uuid4().hex}"
    try:
        with naming(path), temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put Ctrl-C and SIGTERM off to the end of the block."""
    if threading.current_thread() is not threading.main_thread():  # only that one is interrupted
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for first in came[:1]:
            signal.raise_signal(first)


def half_written(folder: Path, what: str) -> list[Path]:
    """Return what commands that ended at work have left of `staged` in a folder; nobody else may work there now."""
    return sorted(folder.glob(f".tmp-{what}-*"))


@contextlib.contextmanager
def staged(folder: Path, what: str) -> Iterator[Path]:
    """Give a folder for files that `put_in_place` brings to `folder` together; it is gone at the end of the block.

    What commands that were killed have left of such folders goes too.
    """
    for left in half_written(folder, what):
        shutil.rmtree(left, ignore_errors=True)
    temporary = folder / f".tmp-{what}-{uuid.uuid4().hex}"
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_in_place(temporary: Path, folder: Path, gone: Iterable[Path] = ()) -> list[Path]:
    """Move the files of a staged folder to their places in `folder`, those in sub-folders first; return these places.

    Ctrl-C and SIGTERM wait until that is done. Files of `folder` that are neither replaced nor in `gone`, which are deleted first,
    stay as they are.
    """
    files = sorted((path for path in temporary.rglob("*") if path.is_file()), key=lambda path: (-len(path.parts), path))
    places = [folder / file.relative_to(temporary) for file in files]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
    with uninterrupted():
        for path in gone:
            path.unlink(missing_ok=True)
        for file, place in zip(files, places, strict=True):
            os.replace(file, place)
    return places
