"""Methods as a user names them: settings and brackets become variants, each with a typed configuration. Imports no torch."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from anoseg_bench import methods
from anoseg_bench.conditions import UNCHANGED, Conditions
from anoseg_bench.errors import UsageError
from anoseg_bench.methods import METHODS
from anoseg_bench.plugins import somebodys_code
from anoseg_bench.registry import Registry, nearest
from anoseg_bench.settings import parse_value, read_yaml

if TYPE_CHECKING:
    from anoseg_bench.methods.base import MethodConfig

Settings = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Variant:
    """A method with a configuration, and what the harness does otherwise for it, under the name that tables show."""

    method: str
    label: str
    config: MethodConfig
    conditions: Conditions = UNCHANGED


def source_hash(method: str) -> str:
    """Return the hash of the code of a method as it was imported: its module or package, and what it shares with other methods.

    A stored cell made by other code may be stale; whether results changed is what a configuration's ``version`` says.
    """
    return _source_hash(method, METHODS[method].origin)


@cache
def _source_hash(method: str, origin: str) -> str:
    package = Path(methods.__file__).parent
    shared = [package / "base.py", package / "backbones.py", *sorted(package.glob("_[!_]*.py"))]
    digest = hashlib.sha256(origin.encode())
    for path in [*_code_of(method, package), *shared]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _code_of(method: str, package: Path) -> list[Path]:
    """Return the files of a method's code, but for what it shares with others, and for a plug-in's, which are its origin."""
    entry = METHODS[method]
    if entry.spec.rpartition(":")[0].endswith(".py"):
        return []
    module = entry.target.partition(":")[0] if isinstance(entry.target, str) else entry.target.__module__
    spec = sys.modules[module].__spec__ if module in sys.modules else importlib.util.find_spec(module)
    file = Path(getattr(spec, "origin", None) or str(getattr(sys.modules.get(module), "__file__", "")))
    if file.parent == package or package not in file.parents:
        return [file]
    return sorted((package / file.relative_to(package).parts[0]).rglob("*.py"))


def is_stale(method: str, source: str | None) -> bool:
    """Return whether a stored cell, made by code of that hash, was made by other code than the method has now."""
    return source not in (None, source_hash(method))


def split_list(text: str) -> list[str]:
    """Split at commas outside brackets: ``"a[x=1,y=2],b"`` gives ``["a[x=1,y=2]", "b"]``."""
    parts = re.findall(r"(?:[^,\[]|\[[^\]]*\]?)+", text)
    return [part.strip() for part in parts if part.strip()]


def map_paths(value: Any, change: Callable[[Path], Any]) -> Any:
    """Return a value with every path in it changed, also in lists, dictionaries and models."""
    if isinstance(value, Path):
        return change(value)
    if isinstance(value, BaseModel):
        return value.model_copy(update={key: map_paths(inner, change) for key, inner in value})
    if isinstance(value, Mapping):
        return {key: map_paths(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(map_paths(inner, change) for inner in value)
    return value


def in_order(value: Any) -> Any:
    """Return plain data with every set in it as a sorted list: their order differs from process to process."""
    if isinstance(value, Mapping):
        return {key: in_order(inner) for key, inner in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(in_order, value), key=repr)
    return [in_order(inner) for inner in value] if isinstance(value, list | tuple) else value


def content_of(path: Path) -> str:
    """Return the hash of a file, or of all files of a folder with their names in it."""
    if path.is_file():
        status = path.stat()
        return _content_of(path, status.st_size, status.st_mtime_ns)
    lines = [f"{file.relative_to(path).as_posix()}:{content_of(file)}" for file in sorted(path.rglob("*")) if file.is_file()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@cache
def _content_of(path: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_settings(
    file: Path | None, assignments: Sequence[str] | Mapping[str, Mapping[str, Any]], dataset: str, registry: Registry[Any]
) -> Settings:
    """Join ``--config FILE.yaml`` and then ``--set name.key=value`` into settings by canonical name.

    Parameters
    ----------
    assignments : sequence of str, or mapping
        ``"name.key=value"``, or ``{name: {key: value}}``.
    dataset : str
        The canonical name of the dataset, whose options may be set like a method's.

    Raises
    ------
    UsageError
        If the file or an assignment is not of that form, the name is no method and not the dataset, or one source gives a key two
        values.
    """
    settings: Settings = {}

    def put(given: list[tuple[str, str, Any, str]]) -> None:
        """Add what one source gives: name, key, value, and where it stands."""
        first: dict[tuple[str, str], tuple[Any, str]] = {}
        for name, key, value, where in given:
            canonical = dataset if name == dataset else registry.resolve(name)
            known, place = first.setdefault((canonical, key), (value, where))
            if repr(known) != repr(value):
                raise UsageError(f"'{canonical}.{key}' is given twice: {known!r} {place} and {value!r} {where}; keep one.")
            settings.setdefault(canonical, {})[key] = value

    if file is not None:
        document = read_yaml(file)
        content = document.value
        if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
            raise UsageError(f"Expected 'method: {{key: value}}' in '{file}', but it has another form.")
        lines = document.lines  # an alias has none of its own for the keys in it
        put(
            [
                (n, k, v, f"in '{file}', line {lines.get((n, k), lines[(n,)])}")
                for n, inside in content.items()
                for k, v in inside.items()
            ]
        )
    if isinstance(assignments, Mapping):
        put([(n, k, v, f"for '{n}'") for n, values in assignments.items() for k, v in values.items()])
    else:
        put([_assignment(text) for text in assignments])
    return settings


def _assignment(text: str) -> tuple[str, str, Any, str]:
    """Return name, key and value of ``name.key=value``, and where it stands."""
    match = re.fullmatch(r"(.+?)\.([A-Za-z_]\w*)=(.*)", text, re.DOTALL)
    if not match:
        raise UsageError(f"Expected --set method.key=value, but got '{text}'.")
    return match[1], match[2], parse_value(match[3], f"--set {text}"), "by --set"


def validated(make: Any, name: str, config: type[BaseModel], overrides: dict[str, Any], also: Iterable[str] = ()) -> Any:
    """Return ``make(overrides)``, with pydantic's complaints as one line; keys `also` known elsewhere are among those it suggests.

    Raises
    ------
    UsageError
        If a key is unknown or a value of the wrong type or range.
    """
    for key, value in overrides.items():
        if key not in config.model_fields:
            raise UsageError(f"Unknown key '{name}.{key}'. {nearest(key, [*config.model_fields, *also])}")
        kind = config.model_fields[key].annotation
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            raise UsageError(f"Wrong value for '{name}.{key}': Input should not be true or false, but got {value}.")
    with somebodys_code(f"The configuration of '{name}'"):
        try:
            made = make(overrides)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise UsageError(f"Wrong value for '{name}.{key}': {first['msg']}, but got {first['input']!r}.") from error

    def absolute(key: str, path: Path) -> Path:
        if not path.exists():
            raise UsageError(f"Wrong value for '{name}.{key}': expected a file or a folder, but there is none at '{path}'.")
        return path.absolute()

    return made.model_copy(update={key: map_paths(value, functools.partial(absolute, key)) for key, value in made})


def match_methods(methods: str | Sequence[str]) -> list[tuple[list[str], dict[str, Any]]]:
    """Return the names and the bracketed settings of each part of ``--methods``; classes of files are registered.

    Raises
    ------
    UsageError
        If a part is malformed or its name unknown.
    """
    matched = []
    for part in split_list(methods) if isinstance(methods, str) else methods:
        match = re.fullmatch(r"([^\[\]]+)(?:\[(.*)\])?", part)
        if not match:
            raise UsageError(f"Expected 'method' or 'method[key=value,...]' in --methods, but got '{part}'.")
        matched.append((METHODS.match(match[1].strip()), _bracket(match[2], part)))
    if not matched:
        raise UsageError("Expected at least one method in --methods; `list` names them.")
    return matched


def unused_settings(settings: Settings, dataset: str, variants: Sequence[Variant], profile: str) -> list[str]:
    """Return the methods whose settings no variant uses, sorted; UsageError if one of these settings is wrong."""
    unused = sorted(set(settings) - {variant.method for variant in variants} - {dataset})
    for method in unused:
        configured(method, profile, settings[method])
    return unused


def configured(
    method: str, profile: str, given: Mapping[str, Any], common: Mapping[str, Any] = {}
) -> tuple[MethodConfig, Conditions]:
    """Return the configuration of a method, and what the harness does otherwise for it.

    Parameters
    ----------
    given : mapping
        Keys of either.
    common : mapping
        Conditions of all variants; of tiles none where `given` has a ``tile`` of its own.

    Raises
    ------
    UsageError
        If a key is unknown, a value wrong, or the method has a key that is the harness's.
    """
    config, own = METHODS[method].load_config(), Conditions.model_fields
    if both := sorted(set(own) & set(config.model_fields)):
        raise UsageError(
            f"'{method}' has a key '{both[0]}', which the harness has for all methods; rename it in its configuration."
        )
    ours = {key: value for key, value in given.items() if key in own}
    ours = (common if "tile" not in ours else {}) | ours  # type: ignore[operator]
    rest = {key: value for key, value in given.items() if key not in own}
    return (
        validated(functools.partial(config.of_profile, profile), method, config, rest, own),
        validated(lambda of: Conditions(**of), method, Conditions, ours),
    )


def parse_methods(
    methods: str | Sequence[str],
    profile: str,
    settings: Settings,
    common: Mapping[str, Any] = {},
    levels: Mapping[str, Mapping[str, Any]] = {},
) -> list[Variant]:
    """Turn ``--methods`` into variants.

    Parameters
    ----------
    methods : str or sequence of str
        Names, aliases, wildcards, ``module:Attribute`` or ``file.py:Attribute``, separated by commas; each may be
        followed by ``[key=value,...]``, with ``label=...`` for its name in tables.
    common : mapping
        Conditions of all variants, see `configured`.
    levels : mapping of str to mapping
        Settings that each of them is crossed with, by what is added to its label: the levels of a variant stand together.

    Raises
    ------
    UsageError
        If a name or a key is unknown, a value wrong, two variants share a label, or one has a key that the levels vary.
    """
    variants: list[Variant] = []
    varied = {key for level in levels.values() for key in level}
    for names, own in match_methods(methods):
        label = own.pop("label", None)
        for method in names:
            given = settings.get(method, {}) | own
            if both := sorted(varied & set(given)):
                raise UsageError(f"'{method}.{both[0]}' is what the experiment varies; leave it out.")
            changes = ",".join(f"{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in own.items())
            name = str(label or (f"{method}[{changes}]" if own else method))
            for title, level in (levels or {"": {}}).items():
                config, conditions = configured(method, profile, given | dict(level), common)
                variant = Variant(method, f"{name} at {title}" if title else name, config, conditions)
                if variant in variants:
                    continue
                if any(v.label == variant.label for v in variants):
                    raise UsageError(f"Two variants are called '{variant.label}'; tell them apart with [...,label=NAME].")
                variants.append(variant)
    return variants


def _bracket(text: str | None, part: str) -> dict[str, Any]:
    own: dict[str, Any] = {}
    for assignment in (text or "").split(","):
        if not assignment.strip():
            continue
        key, separator, value = assignment.partition("=")
        if not separator:
            raise UsageError(f"Expected key=value inside the brackets of '{part}', but got '{assignment}'.")
        key, text = key.strip(), value.strip()
        if key in own:
            raise UsageError(f"'{key}' is given twice in '{part}'; keep one.")
        own[key] = text if key == "label" else parse_value(text, f"'{part}'")
    return own
