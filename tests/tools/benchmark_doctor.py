"""What `doctor` costs on many images, and that its time grows with their number.

    python -m tests.tools.benchmark_doctor [--images 5000] [--side 256]

The images are drawn here, cloudy textures as PNG with square defects, into a folder that is deleted; drawing them is not timed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from anoseg_bench.cli import main as command


def draw(folder: Path, images: int, side: int) -> None:
    """Write a category in the MVTec layout: 80 % training, 10 % good and 10 % defective test images."""
    rng = np.random.default_rng(0)
    for i in range(images):
        split = "train/good" if i % 10 < 8 else "test/good" if i % 10 == 8 else "test/spot"
        clouds = cv2.resize(rng.normal(0, 1, (side // 16, side // 16)).astype(np.float32), (side, side))
        picture = np.clip(120 + 40 * clouds[..., None] + rng.normal(0, 5, (side, side, 3)), 0, 255).astype(np.uint8)
        if split == "test/spot":
            mask = np.zeros((side, side), np.uint8)
            mask[20:50, 30:60] = 255
            picture[mask > 0] = 200
            path = folder / "ground_truth" / "spot" / f"{i:05d}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), mask)
        path = folder / split / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture)


def main() -> None:
    """Print a table of seconds."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--images", type=int, default=5000)
    parse.add_argument("--side", type=int, default=256)
    given = parse.parse_args()
    print("| images | first look (s) | second look (s) |\n|---|---|---|")
    for images in (given.images // 4, given.images):
        with tempfile.TemporaryDirectory() as place:
            draw(Path(place) / "data" / "clouds", images, given.side)
            seconds = []
            for _ in range(2):
                began = time.perf_counter()
                arguments = [
                    "doctor",
                    "--dataset",
                    "mvtec_layout",
                    "--data-root",
                    f"{place}/data",
                    "--sheets",
                    f"{place}/sheets",
                    "-q",
                ]
                command([*arguments, "--json", f"{place}/found.json"])
                seconds.append(time.perf_counter() - began)
        print(f"| {images:,} | {seconds[0]:.1f} | {seconds[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
