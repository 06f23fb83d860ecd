"""Time PatchCore and PaDiM: the greedy choice against the plain algorithm, prediction against anomalib's where it is installed.

    python -m tests.tools.benchmark_pretrained [--images 40] [--size 256] [--threads 1]

Both have the same backbone with the same weights, each its own code for it, the same bank and the same Gaussians; times are of
prediction from images in memory to maps and scores, the shortest of five each, after one that does not count.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable

import torch

from anoseg_bench.datasets import DATASETS
from anoseg_bench.evaluation.cell import resize
from anoseg_bench.methods._memory import k_centre_greedy
from anoseg_bench.methods.padim import PaDiMConfig
from anoseg_bench.methods.padim.method import PaDiM
from anoseg_bench.methods.patchcore import PatchCoreConfig
from anoseg_bench.methods.patchcore.method import PatchCore
from tests.test_pretrained_methods import anomalibs_padim, anomalibs_patchcore

BATCH = 16


def seconds(work: Callable[[], object], times: int = 5) -> float:
    """Return the shortest of some durations, after one that does not count."""
    work()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


def plain_greedy(points: torch.Tensor, number: int) -> None:
    """Choose as `k_centre_greedy` does, by all distances to each new centre."""
    nearest, index = torch.full((len(points),), torch.inf), 0
    for _ in range(number):
        nearest = torch.minimum(nearest, (points - points[index]).square_().sum(1))
        index = int(nearest.argmax())


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    category = DATASETS["synthetic"].load()().load("gasket")
    train, test = (
        torch.stack([resize(item.load_image(), arguments.size) for item in items])
        for items in (category.train[: arguments.images], category.test[:BATCH])
    )
    patchcore, padim = PatchCore(PatchCoreConfig(image_size=arguments.size)), PaDiM(PaDiMConfig(image_size=arguments.size))
    for method in (patchcore, padim):
        began = time.perf_counter()
        method.fit(train)
        print(f"{type(method).__name__}: fit on {len(train)} images of {arguments.size} px in {time.perf_counter() - began:.1f} s")
    pool = patchcore._pool(train)
    number = len(pool) // 20
    plain, ours = (seconds(lambda f=f: f(pool, number), 1) for f in (plain_greedy, k_centre_greedy))  # type: ignore[misc]
    print(f"greedy choice of {number:,} of {len(pool):,} patches: {ours:.1f} s, plain {plain:.1f} s, {plain / ours:.1f} times")
    for method, make in ((patchcore, anomalibs_patchcore), (padim, anomalibs_padim)):
        own = seconds(lambda m=method: m.predict(test))  # type: ignore[misc]
        line = f"{type(method).__name__}: {BATCH / own:.1f} images/s"
        if importlib.util.find_spec("anomalib"):
            model = make(method, train)
            inputs = (test - method.features.mean) / method.features.std
            with torch.no_grad():
                theirs = seconds(lambda m=model, x=inputs: m(x))  # type: ignore[misc]
            line += f"; anomalib's {BATCH / theirs:.1f}; {theirs / own:.1f} times"
        print(line)


if __name__ == "__main__":
    main()
