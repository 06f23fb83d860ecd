"""AnoSeg bench: which method of anomaly segmentation to use, at which threshold, and how sure that is."""

from __future__ import annotations

from pathlib import Path

__version__ = "0.2.0"

_HERE = Path(__file__).resolve().parent
#: The checkout that this package is, None where it is installed apart from one.
CHECKOUT = _HERE.parent if (_HERE / "checkout").is_dir() else None
#: What another process needs on its path to import this very package.
IMPORT_PATH = _HERE / "checkout" if CHECKOUT else _HERE.parent
