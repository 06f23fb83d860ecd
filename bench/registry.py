"""One generic registry: names that a user types, resolved to classes that are imported only when they are needed."""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from anoseg_bench.errors import UsageError
from anoseg_bench.plugins import content_of_plugin, load_attribute, load_module

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"Did you mean: a, b? Available: a, b, c."`` for an unknown `name`."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"Did you mean: {', '.join(close)}? " if close else ""
    return f"{hint}Available: {', '.join(known) or 'none'}."


def _first_line(cls: type) -> str:
    return next(iter((cls.__doc__ or "").strip().splitlines()), "")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """What a registry knows of one name.

    Attributes
    ----------
    name : str
        The canonical name.
    target : type or str
        The class, or ``"module:Class"``, imported at the first `load`.
    config : type or None
        The configuration class; None stands for the ``Config`` of the loaded class.
    summary : str
        One line for `list`.
    origin : str
        For what the command line named: the hash of the file, or the module, so that two files' classes of one name,
        or two versions of one file, are not taken for each other.
    published : tuple of str
        For a method that follows a published one: its name in ``bench/report/published.csv``, and how this one's protocol differs.
    spec : str
        What the command line named, with the whole path of a file: so that another process finds it.
    base : str
        The class that it must be a subclass of, as ``"module:Class"``.
    """

    name: str
    target: type[T] | str
    config: type | None = None
    summary: str = ""
    aliases: tuple[str, ...] = ()
    origin: str = ""
    published: tuple[str, str] | None = None
    spec: str = ""
    base: str = ""

    def load(self) -> type[T]:
        """Return the class, imported if it has not been.

        Raises
        ------
        UsageError
            If it cannot be imported, is no subclass of the `base`, or lacks what is abstract there.
        """
        cls = load_attribute(self.target) if isinstance(self.target, str) else self.target
        what, base = f"'{self.spec or self.name}'", self.base.replace(":", ".")
        if not (isinstance(cls, type) and issubclass(cls, load_attribute(self.base))):
            raise UsageError(f"Expected {what} to be a subclass of {base}, but it is none.")
        if missing := sorted(getattr(cls, "__abstractmethods__", ())):
            raise UsageError(f"{what} lacks {', '.join(missing)}; see {base} for what each must do.")
        return cls

    @property
    def is_of_script(self) -> bool:
        """Whether the class is defined in the script that runs."""
        return getattr(self.target, "__module__", "") == "__main__"

    def load_config(self) -> Any:
        """Return the configuration class, without the implementation's imports where it was registered apart."""
        return self.config if self.config is not None else self.load().Config  # type: ignore[attr-defined]


def _is_same(one: Entry[Any], other: Entry[Any]) -> bool:
    """Return whether two entries are one, or the class of one is that of the other, defined again by an edited file."""
    if one == other:
        return True
    if isinstance(one.target, str) or isinstance(other.target, str):
        return False
    return (one.target.__module__, one.target.__qualname__) == (other.target.__module__, other.target.__qualname__)


@dataclass
class Registry(Generic[T]):
    """Names of one kind of plug-in.

    A name gets here by the `register` decorator in a module of `package`, by an entry point of `group`
    in an installed distribution, or by `add_spec` from the command line.

    Parameters
    ----------
    kind : str
        What the names stand for, in messages: ``"method"``.
    package : str
        The package of which every module is imported before the first look-up, but those called ``_...``.
    group : str
        The entry-point group read before the first look-up.
    base : str
        The class that all are subclasses of, as ``"module:Class"``.
    """

    kind: str
    package: str
    group: str
    base: str
    _entries: dict[str, Entry[T]] = field(default_factory=dict)
    _aliases: dict[str, str] = field(default_factory=dict)
    _providers: dict[str, tuple[Callable[[], list[str]], Callable[[str], Entry[T]]]] = field(default_factory=dict)
    _discovered: bool = False

    def provide(self, prefix: str, names: Callable[[], list[str]], entry: Callable[[str], Entry[T]]) -> None:
        """Let names ``prefix:name`` stand for what another library has; it is asked only when such a name is used.

        Parameters
        ----------
        names : callable
            Returns the names without the prefix, for wildcards.
        entry : callable
            Returns the `Entry` of one of them; raises UsageError if there is none.
        """
        self._providers[prefix] = (names, entry)

    def _provided(self, pattern: str) -> list[str]:
        """Return the canonical names that ``prefix:name`` or ``prefix:wildcard`` means, none if no provider has that prefix."""
        prefix, _, name = pattern.partition(":")
        if prefix not in self._providers:
            return []
        names, entry = self._providers[prefix]
        wanted = [known for known in names() if fnmatch.fnmatchcase(known, name)] if set(name) & set("*?") else [name]
        if not wanted:
            raise UsageError(f"No {self.kind} of {prefix} matches '{pattern}'. {nearest(name, names())}")
        for one in wanted:
            if f"{prefix}:{one}" not in self._entries:
                self._add(replace(entry(one), spec=f"{prefix}:{one}"))
        return [f"{prefix}:{one}" for one in wanted]

    def register(
        self,
        name: str,
        target: str | None = None,
        *,
        config: type | None = None,
        summary: str = "",
        aliases: tuple[str, ...] = (),
        published: tuple[str, str] | None = None,
    ) -> Callable[[type[T]], type[T]]:
        """Register a class under `name`: as a decorator, or at once if `target` names it as ``"module:Class"``.

        Raises
        ------
        UsageError
            If the name or an alias is taken by something else.
        """

        def decorate(cls: type[T]) -> type[T]:
            self._add(Entry(name, cls, config, summary or _first_line(cls), aliases, published=published))
            return cls

        if target is not None:
            self._add(Entry(name, target, config, summary, aliases, published=published))
        return decorate

    def _add(self, entry: Entry[T]) -> None:
        entry = replace(entry, base=self.base)
        for name in (entry.name, *entry.aliases):
            owner = self._aliases.get(name, name)
            if owner in self._entries and not _is_same(self._entries[owner], entry):
                raise UsageError(
                    f"The {self.kind} name '{name}' is taken twice: by {self._entries[owner].target} and by "
                    f"{entry.target}; rename one of them."
                )
        self._entries[entry.name] = entry
        self._aliases.update(dict.fromkeys(entry.aliases, entry.name))

    def _discover(self) -> None:
        if self._discovered:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                load_module(f"{self.package}.{module.name}")
        for point in importlib.metadata.entry_points(group=self.group):
            self._add(Entry(point.name, point.value, summary=f"from the entry point {point.value}"))
        self._discovered = True

    def names(self) -> list[str]:
        """Return the canonical names, sorted."""
        self._discover()
        return sorted(self._entries)

    def resolve(self, name: str) -> str:
        """Return the canonical name for a name or an alias.

        Raises
        ------
        UsageError
            If the name is unknown; the message gives the nearest ones.
        """
        self._discover()
        canonical = self._aliases.get(name, name)
        if canonical not in self._entries and not self._provided(name):
            raise UsageError(f"Unknown {self.kind} '{name}'. {nearest(name, [*self._entries, *self._aliases])}")
        return canonical

    def match(self, pattern: str) -> list[str]:
        """Return the canonical names that a name, an alias, a wildcard (``ae_*``) or a spec (``file.py:Class``) means.

        Raises
        ------
        UsageError
            If nothing matches.
        """
        self._discover()
        if provided := self._provided(pattern):
            return provided
        if ":" in pattern:
            return [self.add_spec(pattern)]
        if not any(c in pattern for c in "*?"):
            return [self.resolve(pattern)]
        self._discover()
        hits = {self._aliases.get(n, n) for n in [*self._entries, *self._aliases] if fnmatch.fnmatchcase(n, pattern)}
        if not hits:
            raise UsageError(f"No {self.kind} matches '{pattern}'. {nearest(pattern, self._entries)}")
        return sorted(hits)

    def one(self, pattern: str) -> str:
        """Return the one canonical name that `match` finds.

        Raises
        ------
        UsageError
            If nothing matches, or several do.
        """
        names = self.match(pattern)
        if len(names) > 1:
            raise UsageError(f"Expected one {self.kind}, but '{pattern}' matches {', '.join(names)}.")
        return names[0]

    def add_spec(self, spec: str) -> str:
        """Register what ``module:Attribute`` or ``file.py:Attribute`` names and return its name here.

        The name is the one that the class was registered under by its own decorator, else the attribute's.
        """
        self._discover()
        cls: type[T] = Entry[T](spec, spec, base=self.base).load()
        where, _, name = spec.rpartition(":")
        file = Path(where).resolve() if where.endswith(".py") else None
        origin = content_of_plugin(file) if file else where
        own = next((entry for entry in self._entries.values() if entry.target is cls), None)
        if own is None:
            own = Entry(name, cls, summary=_first_line(cls), base=self.base)
            self._add(own)
        self._entries[own.name] = replace(own, origin=origin, spec=f"{file or where}:{name}")
        return own.name

    def __contains__(self, name: str) -> bool:
        """Whether a name or an alias is known, here or to a provider, which raises UsageError if it has nothing of the name."""
        self._discover()
        return self._aliases.get(name, name) in self._entries or bool(self._provided(name))

    def __getitem__(self, name: str) -> Entry[T]:
        return self._entries[self.resolve(name)]
