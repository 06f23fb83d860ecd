"""Python files of users as modules: what they import from beside them belongs to them."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from anoseg_bench.errors import UsageError, describe

#: The files that each plug-in consists of, by its own file: it, and what it imported from its folder.
_FILES: dict[Path, list[Path]] = {}


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
    module = _load_file(where, target) if where.endswith(".py") else _load_module(where, target)
    if not hasattr(module, attribute):
        raise UsageError(f"'{where}' has no attribute '{attribute}' (from '{target}'); check its name.")
    return getattr(module, attribute)


def files_of_plugin(path: Path) -> list[Path]:
    """Return the files that a loaded plug-in consists of, sorted: its own, and those beside it that it imported."""
    return _FILES[path.resolve()]


def content_of_plugin(path: Path) -> str:
    """Return the hash of what a loaded plug-in consists of."""
    digest = hashlib.sha256()
    for file in files_of_plugin(path):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _load_module(name: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # somebody else's code, which may raise anything
        raise UsageError(f"Module '{name}' (from '{target}') cannot be imported: {_cause(error)}.") from error


def _load_file(where: str, target: str) -> ModuleType:
    path = Path(where).resolve()
    if not path.is_file():
        raise UsageError(f"Expected a Python file at '{where}' (from '{target}'), but there is none.")
    name = f"_bench_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
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
        raise UsageError(f"'{where}' cannot be imported: {_cause(error)}.") from error
    finally:
        sys.path.remove(folder)
    if folder not in sys.path:
        sys.path.append(folder)  # for what it imports later
    _FILES[path] = sorted({path, *(file for file in _loaded_files() if path.parent in file.parents)})
    return module


def _loaded_files() -> list[Path]:
    """Return the files of the modules that are loaded."""
    names = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return [Path(name) for name in names if isinstance(name, str)]


def _refuse_namesakes(path: Path) -> None:
    """Raise UsageError if a module beside a plug-in bears the name of one beside another plug-in: one would get the other's."""
    theirs = {file.stem: file for files in _FILES.values() for file in files if file not in _FILES and file.parent != path.parent}
    for file in path.parent.glob("*.py"):
        if file.stem in theirs and file.stem in sys.modules:
            raise UsageError(f"Two plug-ins bring a file of the same name, '{theirs[file.stem]}' and '{file}'; rename one of them.")


def _cause(error: BaseException) -> str:
    """Return what went wrong in somebody else's code, and where, as one line."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    place = frames[-1] if len(frames) > 1 else None  # the first is this module's
    if isinstance(error, SyntaxError) and error.filename:
        where = f" ({error.filename}, line {error.lineno})"
    else:
        where = f" ({place.filename}, line {place.lineno})" if place else ""
    what = f"it called sys.exit({error.code!r})" if isinstance(error, SystemExit) else describe(error)  # type: ignore[arg-type]
    return what + where
