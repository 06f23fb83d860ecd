"""What a user may choose, checked before anything runs: dataset, categories, device, folder, seeds."""

from __future__ import annotations

import os
import sys
import uuid
from argparse import Namespace
from pathlib import Path

from anoseg_bench.datasets import DATASETS
from anoseg_bench.datasets.base import Dataset
from anoseg_bench.errors import UsageError
from anoseg_bench.methods import METHODS
from anoseg_bench.plan import Settings, read_settings, split_list, validated
from anoseg_bench.registry import nearest
from anoseg_bench.store.cells import MANIFEST, STORE_NAME


def open_dataset(arguments: Namespace) -> tuple[str, Dataset, Settings]:
    """Return the dataset's canonical name, the adapter, and the settings of everything.

    Raises
    ------
    UsageError
        If the dataset is unknown, or a real one has no root.
    """
    matched = DATASETS.match(arguments.dataset)
    if len(matched) > 1:
        raise UsageError(f"Expected one dataset, but '{arguments.dataset}' matches {', '.join(matched)}.")
    name = matched[0]
    settings = read_settings(arguments.config, arguments.set, name, METHODS)
    cls = DATASETS[name].load()
    config = validated(lambda options: cls.Config(**options), name, cls.Config, settings.get(name, {}))
    if not cls.needs_root:
        if arguments.data_root is not None:
            raise UsageError(f"The dataset '{name}' takes no --data-root; name the dataset of that folder with --dataset.")
        return name, cls(None, config), settings
    root = arguments.data_root or (Path(os.environ["BENCH_DATA_ROOT"]) if os.environ.get("BENCH_DATA_ROOT") else None)
    if root is None:
        raise UsageError(f"The dataset '{name}' needs its folder: give --data-root DIR or set BENCH_DATA_ROOT.")
    if not root.is_dir():
        raise UsageError(f"Expected the folder of '{name}' at '{root}', but there is none; correct --data-root.")
    return name, cls(root, config), settings


def choose_categories(dataset: Dataset, text: str) -> list[str]:
    """Return the categories that ``--category`` names.

    Raises
    ------
    UsageError
        If one is not there, or the dataset has none.
    """
    found = dataset.categories()
    if not found:
        raise UsageError(f"Expected in '{dataset.root}' {dataset.layout}, but found none; correct --data-root.")
    if text == "all":
        return found
    names = list(dict.fromkeys(split_list(text)))
    if not names:
        raise UsageError("Expected 'all' or names in --category, but got nothing.")
    for name in names:
        if name not in found:
            raise UsageError(f"The dataset '{dataset.label}' has no category '{name}'. {nearest(name, found)}")
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
    """Return the folder of the run, made if it is not there.

    Raises
    ------
    UsageError
        If it is a file, holds something else than a run, or cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise UsageError(f"Expected a folder for the results, but '{path}' is a file; give another --out.")
    if path.is_dir() and not (path / MANIFEST).exists() and any(not _is_own(inside.name) for inside in path.iterdir()):
        raise UsageError(f"Expected an empty folder or one of an earlier run, but '{path}' holds other files; give another --out.")
    try:
        store = path.resolve().parent / STORE_NAME
        store.mkdir(parents=True, exist_ok=True)
        path.mkdir(exist_ok=True)
        for folder in (path, store):
            probe = folder / f".tmp-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
    except OSError as error:
        raise UsageError(f"Expected a folder that can be written, but '{path}' cannot: {error.strerror}; change --out.") from error
    return path


def _is_own(name: str) -> bool:
    """Return whether a file may lie in the folder of a run that has no manifest yet."""
    return name == "logs" or name.startswith(".tmp-")


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of ``--seeds``.

    Raises
    ------
    UsageError
        If one is no whole number from 0 to 2^32 - 1.
    """
    parts = split_list(text)
    if not parts or not all(part.isdecimal() and int(part) < 2**32 for part in parts):
        raise UsageError(f"Expected whole numbers from 0 to 2^32 - 1 in --seeds, separated by commas, but got '{text}'.")
    return list(dict.fromkeys(int(part) for part in parts))
