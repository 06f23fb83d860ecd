"""`submit`: kept models on the private test images of MVTec AD 2, as its evaluation server takes them."""

from __future__ import annotations

import argparse
from pathlib import Path

from anoseg_bench.commands.common import add_verbosity, console_of

USAGE = "--run results/NAME --method METHOD --data-root MVTEC_AD_2 --out DIR"
HELP = "maps of MVTec AD 2's private images for its server"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_verbosity(parser)
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="a run on mvtec_ad_2, made with --keep-models")
    parser.add_argument("--method", required=True, help="its name in the run's tables")
    parser.add_argument("--seed", type=int, help="which seed, if the run has several (default: the first)")
    parser.add_argument("--data-root", type=Path, required=True, metavar="DIR", help="folder of MVTec AD 2")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="takes the two folders of maps")


def main(arguments: argparse.Namespace) -> int:
    """Write the maps."""
    from anoseg_bench.evaluation.submission import CONTINUOUS, write_submission
    from anoseg_bench.store.pack import open_run
    from anoseg_bench.validation import choose_device

    out = console_of(arguments)
    run, device = open_run(arguments.run), choose_device(arguments.device)
    for note in write_submission(run, arguments.method, arguments.seed, arguments.data_root, arguments.out, device):
        out.error(f"note: {note}")
    out.result(f"Written to {arguments.out / CONTINUOUS} and beside it; check and pack them with the server's own script")
    return 0
