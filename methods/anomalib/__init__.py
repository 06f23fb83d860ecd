"""A bridge to anomalib's image models (``--methods anomalib:stfpm``): which there are; the module beside makes them methods."""

from __future__ import annotations

import importlib.metadata
import importlib.util

from anoseg_bench.errors import UsageError
from anoseg_bench.methods import METHODS
from anoseg_bench.registry import Entry, nearest

#: Models that cannot run under this protocol, and why.
EXCLUDED = {
    "winclip": "it needs text prompts and CLIP's weights",
    "vlm_ad": "it needs a language model",
    "anomalyvfm": "it needs a foundation model's weights and learns from other data",
    "cfm": "it needs point clouds",
    "dsr": "it needs weights that only anomalib's download has",
    "efficient_ad": "it needs weights and ImageNette images that only anomalib's download has",
    "glass": "it needs the texture images of DTD",
    "ganomaly": "it gives no maps",
    "dfkde": "it gives no maps",
}


def models() -> dict[str, str]:
    """Return the classes of anomalib's image models by the names that a user types.

    Raises
    ------
    UsageError
        If anomalib is not installed.
    """
    if importlib.util.find_spec("anomalib") is None:
        raise UsageError("anomalib is not installed; pip install 'anoseg-bench[anomalib]'.")
    from anomalib.models import image

    return {getattr(image, name).__module__.split(".")[3]: name for name in image.__all__}  # each in a folder of its name


def names() -> list[str]:
    """Return the models that can run, sorted."""
    return sorted(set(models()) - set(EXCLUDED))


def entry(name: str) -> Entry:
    """Return a model as an entry of the registry of methods.

    Raises
    ------
    UsageError
        If there is none of that name, or it cannot run here.
    """
    known = models()
    if name not in known:
        raise UsageError(f"anomalib has no image model '{name}'. {nearest(name, names())}")
    if name in EXCLUDED:
        raise UsageError(f"anomalib's '{name}' cannot run here: {EXCLUDED[name]}.")
    return Entry(
        f"anomalib:{name}",
        f"anoseg_bench.methods.anomalib.method:{known[name]}",
        summary=f"{known[name]} of anomalib",
        origin=f"anomalib {importlib.metadata.version('anomalib')}",
    )


METHODS.provide("anomalib", names, entry)
