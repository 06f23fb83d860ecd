"""What a user may choose, checked before anything runs: dataset, categories, device, folder, seeds, limits."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import Dataset
from anoseg_bench.errors import UsageError
from anoseg_bench.options import PROFILES, RERUN
from anoseg_bench.plugins import somebodys_code
from anoseg_bench.registry import nearest
from anoseg_bench.store.cells import MANIFEST, Run
from anoseg_bench.store.folders import CLAIMS
from anoseg_bench.variants import Settings, split_list, validated


def choose_profile(name: str) -> str:
    """Return the name of a profile; UsageError if there is none of that name."""
    if name not in PROFILES:
        raise UsageError(f"Unknown profile '{name}'. {nearest(name, PROFILES)}")
    return name


def parse_rerun(name: str) -> str:
    """Return what to run again; UsageError if it is no key of `RERUN`."""
    if name not in RERUN:
        raise UsageError(f"Unknown --rerun '{name}'. {nearest(name, RERUN)}")
    return name


def open_dataset(name: str, data_root: str | Path | None, settings: Settings) -> Dataset:
    """Return the adapter of a canonical name, with its options out of `settings`.

    Raises
    ------
    UsageError
        If an option is wrong, or a real dataset has no root.
    """
    return make_dataset(DATASETS[name].load(), name, data_root, settings.get(name, {}))


def make_dataset(cls: type[Dataset], name: str, data_root: str | Path | None, options: Mapping[str, Any]) -> Dataset:
    """Return an adapter of a class; parameters and errors as of `open_dataset`."""
    config = validated(lambda given: cls.Config(**given), name, cls.Config, dict(options))
    if not cls.needs_root:
        if data_root is not None:
            raise UsageError(f"The dataset '{name}' takes no --data-root; name the dataset of that folder with --dataset.")
        return _made(cls, name, None, config)
    given = data_root or os.environ.get("BENCH_DATA_ROOT")
    if not given:
        raise UsageError(f"The dataset '{name}' needs its folder: give --data-root DIR or set BENCH_DATA_ROOT.")
    root = Path(given)
    if not root.is_dir():
        found = "that is a file" if root.exists() else "there is none"
        raise UsageError(f"Expected the folder of '{name}' at '{root}', but {found}; correct --data-root.")
    return _made(cls, name, root.absolute(), config)


def _made(cls: type[Dataset], name: str, root: Path | None, config: Any) -> Dataset:
    with somebodys_code(f"The dataset '{name}'"):
        dataset = cls(root, config)
        if not isinstance(getattr(dataset, "label", None), str):
            raise UsageError(
                f"The dataset '{name}' has no `label`, the name that tables show; see anoseg_bench.datasets.base.Dataset."
            )
        dataset.registered = name
        return dataset


def choose_categories(dataset: Dataset, wanted: str | Sequence[str]) -> list[str]:
    """Return the categories that ``--category`` names: text, or names.

    Raises
    ------
    UsageError
        If one is not there, or the dataset has none.
    """
    with somebodys_code(f"The dataset '{dataset.label}'"):
        existing = dataset.categories()
    if not existing:
        raise UsageError(f"Expected in '{dataset.root}' {dataset.layout}, but found none; correct --data-root.")
    if wanted == "all":
        return existing
    several = [wanted] if wanted in existing else split_list(wanted) if isinstance(wanted, str) else wanted
    names = list(dict.fromkeys(several))
    if not names:
        raise UsageError("Expected 'all' or names in --category, but got nothing.")
    for name in names:
        if name not in existing:
            raise UsageError(f"The dataset '{dataset.label}' has no category '{name}'. {nearest(name, existing)}")
    return names


def choose_device(name: str, here: bool = True) -> str:
    """Return a device that is there: ``auto`` takes CUDA, then MPS, then the CPU.

    Parameters
    ----------
    here : bool
        Whether it must be on this machine; where a cluster's machines have it, what is named is taken at its word.

    Raises
    ------
    UsageError
        If the device is unknown or not available.
    """
    if name not in ("auto", "cpu", "cuda", "mps"):
        raise UsageError(f"Unknown device '{name}'. {nearest(name, ['auto', 'cpu', 'cuda', 'mps'])}")
    without = sys.platform == "linux" and not any(Path(p).exists() for p in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))
    if name == "cpu" or (name == "auto" and without):
        return "cpu"
    if name != "auto" and not here:
        return name
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next((device for device, there in available.items() if there), "cpu")
    if not available[name]:
        raise UsageError(f"Expected the device '{name}', but this machine's torch sees none; use --device cpu or auto.")
    return name


def choose_folder(path: Path) -> Path:
    """Return the folder of a run, absolute; nothing is made.

    Raises
    ------
    UsageError
        If it is a file, or holds something else than a run.
    """
    if path.exists() and not path.is_dir():
        raise UsageError(f"Expected a folder for the results, but '{path}' is a file; give another --out.")
    if path.is_dir() and not (path / MANIFEST).exists() and any(not _is_own(inside.name) for inside in path.iterdir()):
        raise UsageError(f"Expected an empty folder or one of an earlier run, but '{path}' holds other files; give another --out.")
    return path.absolute()


def make_folder(path: Path) -> None:
    """Make the folder of a run, and of the store beside it.

    Raises
    ------
    UsageError
        If they cannot be written.
    """
    try:
        store = Run(path).store.root
        store.mkdir(parents=True, exist_ok=True)
        path.mkdir(exist_ok=True)
        for folder in (path, store):
            probe = folder / f".tmp-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
    except OSError as error:
        raise UsageError(f"Expected a folder that can be written, but '{path}' cannot: {error.strerror}; change --out.") from error


def _is_own(name: str) -> bool:
    """Return whether a file may lie in the folder of a run that has no manifest yet."""
    return name in ("logs", CLAIMS) or name.startswith(".tmp-")


def parse_seeds(seeds: str | int | Sequence[int]) -> list[int]:
    """Return seeds, of ``--seeds`` or as numbers, each once.

    Raises
    ------
    UsageError
        If one is no whole number from 0 to 2^32 - 1.
    """
    parts = split_list(str(seeds)) if isinstance(seeds, str | int) else [str(seed) for seed in seeds]
    if not parts or not all(part.isdecimal() and int(part) < 2**32 for part in parts):
        raise UsageError(f"Expected whole numbers from 0 to 2^32 - 1 in --seeds, separated by commas, but got '{seeds}'.")
    return list(dict.fromkeys(int(part) for part in parts))


def parse_shard(text: str) -> tuple[int, int]:
    """Return (i, n) of ``--shard i/n``, i from 1.

    Raises
    ------
    UsageError
        If it is not of that form.
    """
    i, _, n = text.partition("/")
    if not (i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
        raise UsageError(f"Expected --shard i/n with i from 1 to n, e.g. 2/8, but got '{text}'.")
    return int(i), int(n)


def parse_duration(given: str | float | None) -> float | None:
    """Return seconds for a number, ``90s``, ``30m`` or ``2h``; None for None.

    Raises
    ------
    UsageError
        If it is not of that form, or not above 0.
    """
    if given is None:
        return None
    text = str(given)
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    try:
        seconds = float(text[:-1] if unit else text) * (unit or 1)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"Expected --timeout as seconds or like 90s, 30m, 2h, but got '{text}'.")
    return seconds
