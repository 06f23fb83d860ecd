"""What reading and resizing take of a cell's prediction, with images read in turn and read one batch ahead.

python -m tests.tools.benchmark_prediction --data-root DIR --category bottle [--threads 2] [--repeats 3]

Lost is the share of the clock in which no method predicts: 1 - method / whole. The methods are trained for a few steps only, which
their speed does not depend on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from anoseg_bench.datasets.base import Item
from anoseg_bench.datasets.mvtec import MVTecLayout
from anoseg_bench.evaluation import cell
from anoseg_bench.evaluation.tiles import Tiling
from anoseg_bench.methods import METHODS
from anoseg_bench.methods.base import Method
from anoseg_bench.testing import budget


def trained(name: str, profile: str, items: list[Item]) -> Method:
    """Return a method after a short training."""
    cls = METHODS[name].load()
    config = cls.Config.of_profile(profile, {})
    method: Method = cls(config.model_copy(update=budget(cls.Config, 4, config.batch_size)))
    method.fit(torch.stack([cell.resize(item.load_image(), config.input_size) for item in items]))
    return method


def measured(method: Method, items: list[Item], ahead: Callable) -> tuple[float, float]:
    """Return the seconds of a whole prediction, and those of the method in it."""
    cell.ahead = ahead
    predict = cell._Predictor(method, Tiling())
    began = time.perf_counter()
    predict(items, lambda done, total: None)
    return time.perf_counter() - began, predict.seconds


def main() -> None:
    """Print the table."""
    parse = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parse.add_argument("--data-root", type=Path, required=True)
    parse.add_argument("--category", required=True)
    parse.add_argument("--methods", default="patchcore,anoseg_pretrained")
    parse.add_argument("--profile", default="quick")
    parse.add_argument("--threads", type=int, default=2)
    parse.add_argument("--repeats", type=int, default=3, help="of which the fastest counts")
    arguments = parse.parse_args()
    torch.set_num_threads(arguments.threads)
    category = MVTecLayout(arguments.data_root).load(arguments.category)
    ways = {"in turn": iter, "one batch ahead": cell.ahead}
    began = time.perf_counter()
    images = [item.load_image() for item in category.test]
    print(f"{len(images)} images of {images[0].shape[1]}x{images[0].shape[0]}, {arguments.threads} threads; reading alone: "
          f"{1000 * (time.perf_counter() - began) / len(images):.1f} ms an image")  # fmt: skip
    print("| method | images are read | whole (s) | method (s) | lost (%) |\n|---|---|---|---|---|")
    for name in arguments.methods.split(","):
        method = trained(name, arguments.profile, category.train[:48])
        measured(method, category.test[: method.config.batch_size], iter)
        times = {way: [] for way in ways}
        for _ in range(arguments.repeats):
            for way, ahead in ways.items():
                times[way].append(measured(method, category.test, ahead))
        for way, several in times.items():
            whole, own = min(several)
            print(f"| {name} | {way} | {whole:.2f} | {own:.2f} | {100 * (1 - own / whole):.0f} |", flush=True)


if __name__ == "__main__":
    main()
