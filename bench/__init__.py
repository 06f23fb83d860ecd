"""AnoSeg bench: which method of anomaly segmentation to use, at which threshold, and how sure that is.

From Python:

    from anoseg_bench import Plan, run
    results = run(Plan.of("anoseg,ae_recon", category="gasket", profile="demo"))
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anoseg_bench.api import compare_runs, load_run, run
    from anoseg_bench.datasets import DATASETS
    from anoseg_bench.methods import METHODS
    from anoseg_bench.methods.base import Method, Prediction
    from anoseg_bench.metrics import evaluate
    from anoseg_bench.plan import Plan
    from anoseg_bench.testing import check_dataset, check_method

__version__ = "0.2.0"

#: Where each public name is found, imported when it is first asked for: the command answers at once.
_PUBLIC = {
    "DATASETS": "datasets",
    "METHODS": "methods",
    "Method": "methods.base",
    "Plan": "plan",
    "Prediction": "methods.base",
    "check_dataset": "testing",
    "check_method": "testing",
    "compare_runs": "api",
    "evaluate": "metrics",
    "load_run": "api",
    "run": "api",
}
__all__ = [
    "DATASETS",
    "METHODS",
    "Method",
    "Plan",
    "Prediction",
    "check_dataset",
    "check_method",
    "compare_runs",
    "evaluate",
    "load_run",
    "run",
]

_HERE = Path(__file__).resolve().parent
#: The checkout that this package is, None where it is installed apart from one.
CHECKOUT = _HERE.parent if (_HERE / "checkout").is_dir() else None
#: What another process needs on its path to import this very package.
IMPORT_PATH = _HERE / "checkout" if CHECKOUT else _HERE.parent


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
