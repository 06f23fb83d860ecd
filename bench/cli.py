"""The command line. Nothing heavy is imported before it is needed: ``--help`` answers at once."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

from anoseg_bench.errors import BenchError, describe
from anoseg_bench.registry import nearest
from anoseg_bench.store.claims import BEAT

COMMANDS = ("run", "status", "list", "report", "score", "predict", "preview")

EPILOG = """\
commands (the default is run):
  run_bench.py [run] [options]      run methods on a dataset and report
  run_bench.py status results/NAME  where its cells stand, also while another command works at it
  run_bench.py list                 methods, datasets, categories found, profiles
  run_bench.py report results/NAME  tables and plots again from what is stored, nothing trained
  run_bench.py score --maps DIR     the same numbers for maps that any other tool saved
  run_bench.py predict --run results/NAME --method METHOD --category NAME IMAGES... --out DIR
                                    maps, overlays and decisions of a model that --keep-models kept
  run_bench.py preview METHOD       a gallery of the synthetic anomalies that a method learns from

examples:
  run_bench.py --methods anoseg,ae_recon --category all
  run_bench.py --methods 'anoseg,anoseg[coord=false,label=no-coord]' --dataset mvtec_ad --data-root DIR --profile full
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and which guesses no option from its beginning."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False} | options)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and exit with 2."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = Parser(prog="run_bench.py")
    sub = top.add_subparsers(dest="command", metavar="{" + ",".join(COMMANDS) + "}")
    data = Parser(add_help=False)
    data.add_argument("--dataset", default="synthetic", help="a dataset of `list`, or file.py:Class (default: the embedded one)")
    data.add_argument("--data-root", type=Path, help="folder of a real dataset (default: the environment's BENCH_DATA_ROOT)")
    data.add_argument("--config", type=Path, metavar="FILE.yaml", help="settings: 'method: {key: value}'")
    data.add_argument(
        "--set", action="append", default=[], metavar="METHOD.KEY=VALUE", help="one setting, after --config; repeatable"
    )
    voice = Parser(add_help=False)
    voice.add_argument("-q", "--quiet", action="store_true", help="results and errors only")
    voice.add_argument("-v", "--verbose", action="store_true", help="tracebacks of what failed")
    partial = Parser(add_help=False)
    partial.add_argument("--allow-partial", action="store_true", help="print means over incomplete columns, with n/N")
    partial.add_argument(
        "--published",
        metavar="NAMES",
        help="show these published methods, too, e.g. 'NSA*,DRAEM,patchcore*'",
    )
    images = Parser(add_help=False)
    images.add_argument("--category", default="all", help="names separated by commas, or all (default)")
    images.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out images, e.g. 'bottle/test/crack/003'; repeatable",
    )

    run = sub.add_parser(
        "run",
        parents=[data, voice, partial, images],
        help="run methods on a dataset and report (the default)",
        description="Compare anomaly-segmentation methods honestly.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = run.add_mutually_exclusive_group()
    what.add_argument(
        "--methods",
        default="anoseg,ae_recon,ae_ssim,gradcam,pixel_stats,random",
        help="names, wildcards (ae_*), "
        "file.py:Class, variants 'anoseg[coord=false,label=no-coord]', separated by commas (default: %(default)s)",
    )
    what.add_argument(
        "--experiment", metavar="NAME", help="a question of the paper, with its variants, table and figure: ablation, "
        "parts, coordinates, detection or robustness")  # fmt: skip
    run.add_argument("--seeds", default="0", help="separated by commas (default: 0)")
    run.add_argument("--profile", default="quick", help="demo, quick (default) or full; see `list`")
    run.add_argument(
        "--holdout", type=float, default=0.1, help="share of the training images held out for thresholds (default: 0.1)"
    )
    _add_how(run.add_argument_group("how it runs"))
    run.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    run.add_argument("--out", type=Path, help="folder of the run (default: results/<dataset>-<profile>[-<experiment>])")
    run.add_argument(
        "--save-maps", action="store_true", help="keep all maps as float32 TIFF; a cell stored without them runs again"
    )

    sub.add_parser("list", parents=[data, voice], help="methods, datasets, categories found, profiles")
    report = sub.add_parser("report", parents=[voice, partial], help="tables and plots again from what is stored")
    report.add_argument("run", type=Path, help="folder of a run")
    status = sub.add_parser("status", parents=[voice], help="where the cells of a run stand")
    status.add_argument("run", type=Path, help="folder of a run")
    _add_predict(sub.add_parser("predict", parents=[voice], help="use a kept model on images"))
    preview = sub.add_parser("preview", parents=[data, voice, images], help="synthetic anomalies that a method learns from")
    preview.add_argument("method", help="a method of `list`")
    preview.add_argument("--profile", default="quick", help="demo, quick (default) or full")
    preview.add_argument("--number", type=int, default=24, help="how many (default: 24)")
    preview.add_argument("--seed", type=int, default=0, help="which (default: 0)")
    preview.add_argument("--out", type=Path, help="folder (default: results/preview-<method>)")
    _add_score(sub.add_parser("score", parents=[data, voice, partial, images], help="score maps that any tool saved"))
    return top


def _add_how(how: argparse._ArgumentGroup) -> None:
    how.add_argument("--workers", type=int, metavar="N", help="cells at once, each in a process of its own (default: on this "
                     "machine's CPU as many as it has cores, at most 4; on a GPU or a cluster 1; 0: one by one in this process, "
                     "for a debugger)")  # fmt: skip
    how.add_argument("--threads", type=int, metavar="N", help="threads of each cell (default: the cores divided among the workers)")
    how.add_argument("--timeout", metavar="TIME", help="end a cell that takes longer: seconds, or like 90s, 30m, 2h")
    how.add_argument("--memory", type=float, metavar="GIB", help="limit of the address space of each cell")
    how.add_argument("--rerun", default="missing", metavar="WHAT", help="missing: what has no result, failed ones too (default); "
                     "failed: only these; stale: also what other code of its method made; all")  # fmt: skip
    how.add_argument("--shard", metavar="I/N", help="run every N-th cell only, from the I-th: for job arrays on a shared folder")
    how.add_argument("--dry-run", action="store_true", help="show the cells, which are stored, and how long the rest should take")
    how.add_argument("--keep-models", action="store_true", help="keep what methods learned, for `predict`; a cell stored without "
                     "it runs again")  # fmt: skip
    how.add_argument("--engine", default="local", help="local (default) or ray")
    how.add_argument(
        "--ray-address", metavar="ADDRESS", help="a running Ray cluster: auto, or its address (default: start one here)"
    )
    how.add_argument("--gpus-per-cell", type=float, default=1.0, metavar="SHARE", help="of a GPU, with ray on cuda (default: 1)")
    how.add_argument("--heartbeat", type=float, default=BEAT, metavar="SECONDS", help="between two signs of life of a cell "
                     "(default: %(default)s); one without for 60 of these is taken over")  # fmt: skip


def _add_predict(predict: argparse.ArgumentParser) -> None:
    predict.add_argument("images", type=Path, nargs="+", help="image files, or folders of them")
    predict.add_argument("--run", type=Path, required=True, metavar="RUN", help="a run that was made with --keep-models")
    predict.add_argument("--method", required=True, help="its name in the run's tables")
    predict.add_argument("--category", required=True, help="the category that it was trained on")
    predict.add_argument("--seed", type=int, help="which, where the run has several (default: the first)")
    predict.add_argument(
        "--plugin", action="append", default=[], metavar="file.py:Class", help="where a method of yours is defined"
    )
    predict.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    predict.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for maps/, overlays/ and predictions.csv")


def _add_score(score: argparse.ArgumentParser) -> None:
    score.description = (
        "Score maps with the suite of a run: float TIFF, npy, npz, PNG of 16 bit; named like the images (test/crack/003.tiff, or "
        "less of it where that is plain), in one folder per category or in one for all; brought to the size of their image."
    )
    score.add_argument("--maps", type=Path, required=True, metavar="DIR", help="folder of maps; those of normal images that are "
                       "not in the test set (train/good/...) give thresholds: they must not have been trained on")  # fmt: skip
    score.add_argument("--normal-maps", type=Path, metavar="DIR", help="folder of these maps, if they are elsewhere")
    score.add_argument("--scores", type=Path, metavar="FILE.csv", help="image scores, columns name and score (default: "
                       "scores.csv in the folder of maps or of the category, else the largest value of each map)")  # fmt: skip
    score.add_argument("--probability", action=argparse.BooleanOptionalAction, help="whether the maps are probabilities "
                       "(default: what maps.json beside them says, else not)")  # fmt: skip
    score.add_argument("--name", help="the name in tables (default: that of the folder)")
    score.add_argument("--seed", type=int, help="the seed that the maps were made with, one of the run's (default: what maps.json "
                       "says, else the run's first, else 0)")  # fmt: skip
    place = score.add_mutually_exclusive_group()
    place.add_argument("--add-to", type=Path, metavar="RUN", help="an existing run, beside whose methods the maps are shown: "
                       "same --dataset, images and categories")  # fmt: skip
    place.add_argument("--out", type=Path, help="folder of a run of its own (default: results/scored-NAME)")


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0 if all went well; 1 if a cell failed; 2 if what was asked for is wrong; 130 after Ctrl-C, 143 after SIGTERM.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0].startswith("-"):
        argv.insert(0, "run")
    elif argv[0] not in COMMANDS:
        print(f"error: Unknown command '{argv[0]}'. {nearest(argv[0], COMMANDS)}", file=sys.stderr)
        return 2
    arguments = parser().parse_args(argv)
    stopped = 130
    if threading.current_thread() is threading.main_thread():

        def terminate(*_: object) -> None:  # as Ctrl-C does: what runs is ended and given free
            nonlocal stopped
            stopped = 143
            raise KeyboardInterrupt

        signal.signal(signal.SIGTERM, terminate)
    try:
        from anoseg_bench.commands import all as commands

        return getattr(commands, f"{arguments.command}_command")(arguments)
    except BrokenPipeError:  # the reader of a pipe went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("stopped; finished cells are kept: the same command goes on from there", file=sys.stderr)
        return stopped
    except (BenchError, OSError) as error:
        if arguments.verbose:
            traceback.print_exc()
        print(f"error: {describe(error)}", file=sys.stderr)
        return error.exit_code if isinstance(error, BenchError) else 1
