"""What a method costs: parameters, multiply-adds, images per second, size on disk, peak memory."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from anoseg_bench.methods.base import Method

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MIB = 2**20
#: Seconds that a speed is measured for, at least, after one call that is not counted.
MEASURED = 0.05


class Peak:
    """The largest memory in use during a block, in MiB: on CUDA that of torch's allocator, else that of the process.

    NaN where the system does not tell the peak of a time (elsewhere than on Linux).
    """

    mib: float = math.nan


@contextlib.contextmanager
def peak_memory(device: str) -> Iterator[Peak]:
    """Measure the peak memory of the block; read it when the block has ended."""
    peak = Peak()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        yield peak
        peak.mib = torch.cuda.max_memory_allocated() / MIB
        return
    try:
        _RESET.write_text("5", encoding="ascii")  # sets the high-water mark to what is in use now
    except OSError:
        yield peak
        return
    yield peak
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            peak.mib = int(line.split()[1]) / 1024


def multiply_adds(method: Method) -> int:
    """Return the multiply-adds of predicting one (grey) image, of convolutions and matrix products; others count for nothing."""
    side = method.config.input_size
    image = torch.full((1, 3, side, side), 128, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter:
        method.predict(image)
    return counter.get_total_flops() // 2


def images_per_second(method: Method, images: torch.Tensor, batch: int, tiles: float = 1.0) -> float:
    """Return how many images a method predicts per second, so many at once, but never more than its own batch size allows.

    Parameters
    ----------
    images : torch.Tensor
        uint8 (N, 3, S, S), taken again where the batch is larger; tiles of images, where an image has several.
    tiles : float
        How many an image has.
    """
    number = min(round(batch * tiles), max(batch, method.config.batch_size))
    images = images.repeat(-(-number // len(images)), 1, 1, 1)[:number]
    method.predict(images)
    calls, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < MEASURED:
        method.predict(images)
        calls += 1
    return calls * number / elapsed / tiles


def model_mib(method: Method) -> float:
    """Return the size of a trained method's state, as it is stored on disk, in MiB."""
    return sum(value.numel() * value.element_size() for value in method.state().values()) / MIB
