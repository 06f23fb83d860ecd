"""Python files of users as modules: what they import from beside them belongs to them."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from anoseg_bench.errors import BenchError, UsageError, describe


@dataclass(frozen=True)
class Loaded:
    """A plug-in as it was when it was imported: its files, and the hash of what they held."""

    files: tuple[Path, ...]
    content: str


#: Where the code of Python and of installed packages lies: an error that shows there was made by who called it.
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})

#: The plug-ins that are loaded, by their file.
_LOADED: dict[Path, Loaded] = {}


def load_attribute(target: str) -> Any:
    """Import ``"module:Attribute"`` or ``"path/to/file.py:Attribute"``.

    Raises
    ------
    UsageError
        If the module, the file or the attribute cannot be found, or the code fails or exits when it is imported.
    """
    where, separator, attribute = target.rpartition(":")
    if not separator or not where or not attribute:
        raise UsageError(f"Expected 'module:Attribute' or 'file.py:Attribute', but got '{target}'.")
    module = _load_file(where, target) if where.endswith(".py") else load_module(where, target)
    if not hasattr(module, attribute):
        raise UsageError(f"'{where}' has no attribute '{attribute}' (from '{target}'); check its name.")
    return getattr(module, attribute)


def files_of_plugin(path: Path) -> list[Path]:
    """Return the files that a plug-in consists of, sorted: its own, and those beside it that it imports, now or later."""
    path = path.resolve()
    files, todo = {path}, [path]
    while todo:
        for name in _imported(todo.pop()):
            beside = path.parent / f"{name}.py", *sorted((path.parent / name).rglob("*.py"))
            new = {file for file in beside if file.is_file()} - files
            files |= new
            todo += new
    return sorted(files)


def _imported(file: Path) -> set[str]:
    """Return the top-level names that a file imports; none where it cannot be parsed, which its import says."""
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:
        return set()
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.partition(".")[0] for name in names}


def content_of_plugin(path: Path) -> str:
    """Return the hash of what a plug-in consisted of when it was imported."""
    return _LOADED[path.resolve()].content


def _content(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def load_module(name: str, target: str = "") -> ModuleType:
    """Import a module.

    Raises
    ------
    UsageError
        If it cannot be found, or its code fails or exits.
    """
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # somebody else's code, which may raise anything
        source = f" (from '{target}')" if target else ""
        raise UsageError(f"Module '{name}'{source} cannot be imported: {cause(error)}.") from error


def _load_file(where: str, target: str) -> ModuleType:
    path = Path(where).resolve()
    if not path.is_file():
        raise UsageError(f"Expected a Python file at '{where}' (from '{target}'), but there is none.")
    name = f"_bench_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    files = tuple(files_of_plugin(path))
    content = _content(files)
    if name in sys.modules:
        if _LOADED[path].content == content:
            return sys.modules[name]
        _forget(_LOADED[path].files)  # it was edited since, in a notebook say
    _refuse_namesakes(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    folder = str(path.parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # somebody else's code, which may raise anything
        del sys.modules[name]
        raise UsageError(f"'{where}' cannot be imported: {cause(error)}.") from error
    finally:
        sys.path.remove(folder)
    if folder not in sys.path:
        sys.path.append(folder)  # for what it imports later
    _LOADED[path] = Loaded(files, content)
    return module


def _forget(files: Iterable[Path]) -> None:
    """Take the modules of these files out of those that are imported."""
    for name, module in list(sys.modules.items()):
        if (file := getattr(module, "__file__", None)) and Path(file) in files:
            del sys.modules[name]
    importlib.invalidate_caches()


def _refuse_namesakes(path: Path) -> None:
    """Raise UsageError if a file beside a plug-in bears the name of one beside another: one would get the other's."""
    theirs = {file.name: file for other, loaded in _LOADED.items() if other.parent != path.parent for file in loaded.files}
    for file in files_of_plugin(path):
        if file != path and file.name in theirs:
            raise UsageError(f"Two plug-ins bring a file of the same name, '{theirs[file.name]}' and '{file}'; rename one of them.")


def cause(error: BaseException) -> str:
    """Return what went wrong in somebody else's code, and where in it, as one line without a full stop."""
    what = f"it called sys.exit({error.code!r})" if isinstance(error, SystemExit) else describe(error)  # type: ignore[arg-type]
    if isinstance(error, BenchError):
        return what.rstrip(".")
    if isinstance(error, SyntaxError) and error.filename:
        return f"{what.rstrip('.')} ({error.filename}, line {error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", __file__, importlib.__file__))
    ]
    own = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)] or frames
    return f"{what.rstrip('.')} ({own[-1].filename}, line {own[-1].lineno})" if own else what.rstrip(".")


@contextlib.contextmanager
def somebodys_code(what: str) -> Iterator[None]:
    """Turn whatever a plug-in's code raises in the block, an exit among it, into a UsageError that names the place."""
    try:
        yield
    except BenchError:
        raise
    except (Exception, SystemExit) as error:  # somebody else's code, which may raise anything
        raise UsageError(f"{what} failed: {cause(error)}.") from error
