"""What is needed to make a result again: versions, commit, device, threads."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path

from anoseg_bench import CHECKOUT, __version__
from anoseg_bench.store.records import Provenance

#: What of a checkout makes results.
CODE = ("bench", "methods", "datasets", "run_bench.py", "pyproject.toml")
PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "kornia", "grad-cam", "pillow")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor() or platform.machine()


@cache
def commit() -> tuple[str | None, bool]:
    """Return the commit of the checkout that runs (None outside of one) and whether its code differs from it."""
    if CHECKOUT is None:
        return None, False
    name = _git("rev-parse", "--short=12", "HEAD")
    return name, bool(name) and bool(_git("status", "--porcelain", "--", *CODE))


def revision() -> str | None:
    """Return the commit in words, as `Provenance.revision`; None outside of a checkout."""
    name, dirty = commit()
    return Provenance(commit=name, dirty=dirty).revision if name else None


def provenance(device: str) -> Provenance:
    """Return the provenance of a cell computed now on `device`."""
    import torch

    name, dirty = commit()
    versions = {"anoseg-bench": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "absent"
    return Provenance(
        commit=name,
        dirty=dirty,
        versions=versions,
        platform=platform.platform(),
        device=device,
        device_name=torch.cuda.get_device_name() if device == "cuda" else _cpu(),
        threads=torch.get_num_threads(),
    )
