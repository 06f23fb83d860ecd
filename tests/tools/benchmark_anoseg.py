"""What AnoSeg's training costs: multiply-adds, seconds per 1,000 images, and the share of that for making them.

    python -m tests.tools.benchmark_anoseg [--profile quick] [--device cpu] [--images 960]
    ATEN_CPU_CAPABILITY=avx2 python -m tests.tools.benchmark_anoseg      # as on a CPU without AVX-512

The whole training with its detector, making batches alone, and training on ready batches are timed in turns in one run; medians are
shown, an image being one that the generator learns from. On a CPU batches are made and learned from in turn; on CUDA processes
make them, and the slower of the two bounds the whole.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from anoseg_bench.evaluation.cost import multiply_adds
from anoseg_bench.methods._batches import Batches, makers_for
from anoseg_bench.methods.anoseg import AnoSegConfig
from anoseg_bench.methods.anoseg.anomalies import Source, to_tensors
from anoseg_bench.methods.anoseg.method import AnoSeg
from anoseg_bench.methods.anoseg.training import train_detector, train_generator


def seconds(work: Callable[[], object], device: str) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    """Time the parts and print them."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--profile", default="quick")
    parse.add_argument("--images", type=int, default=960)
    parse.add_argument("--turns", type=int, default=3)
    parse.add_argument("--device", default="cpu")
    parse.add_argument("--threads", type=int)
    a = parse.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    config = AnoSegConfig.of_profile(a.profile, {})
    size, steps = config.image_size, -(-a.images // config.batch_size)
    detector_steps = config.model_copy(update={"images_seen": a.images}).detector_steps
    pixels = np.random.default_rng(0).integers(0, 256, (64, size // 8, size // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    method = AnoSeg(config, device=a.device)
    method._build()
    batches = Batches(Source.of(pixels, config), 0, config.batch_size, steps + detector_steps)
    ready = [to_tensors(tuple(array.to(a.device) for array in batches[i])) for i in range(min(4, steps))]

    def train(source) -> None:
        method._build()
        for _ in train_generator(method.generator, source, steps, config, a.device):
            pass
        for _ in train_detector(method.detector, method._maps, source, detector_steps, a.device):
            pass

    makers = makers_for(a.device)
    parts: dict[str, Callable[[], object]] = {
        "whole training": lambda: train(map(to_tensors, batches.on(a.device))),
        "on ready batches": lambda: train(itertools.cycle(ready)),
        "making batches": lambda: [None for _ in (batches._by_processes(makers) if makers else batches._in_turn())],
    }
    for work in parts.values():
        work()
    times = {name: statistics.median(seconds(work, a.device) for _ in range(a.turns)) for name, work in parts.items()}
    capability = torch.backends.cpu.get_cpu_capability() if a.device == "cpu" else torch.cuda.get_device_name()
    print(f"{a.profile}: {size} px, batches of {config.batch_size}, {a.device} ({capability}), {torch.get_num_threads()} threads")
    print(f"generator, an image: {(multiply_adds(method) or 0) / 1e9:.2f} GMAC")
    for name, value in times.items():
        each = value / (steps * config.batch_size)
        print(f"{name}: {1000 * each:.2f} s per 1,000 images, {each * config.images_seen:.0f} s for {config.images_seen:,}")
    print(f"share of making: {1 - times['on ready batches'] / times['whole training']:.2f}")


if __name__ == "__main__":
    main()
