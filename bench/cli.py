"""The command line. Nothing heavy is imported before it is needed: ``--help`` answers at once."""

from __future__ import annotations

import argparse
import importlib
import shlex
import signal
import sys
import threading
import traceback

from anoseg_bench.commands.common import Parser, program
from anoseg_bench.errors import BenchError, describe, full_disk
from anoseg_bench.registry import nearest
from anoseg_bench.streams import drop_unwritten, make_streams_safe

#: The sub-commands, each a module of `commands` with `USAGE`, `HELP`, `add_arguments` and `main`; the first is the default.
COMMANDS = (
    "run",
    "status",
    "list",
    "doctor",
    "report",
    "compare",
    "score",
    "predict",
    "export",
    "latency",
    "submit",
    "pack",
    "preview",
    "check",
)

#: The commands that keep what they finished when they are stopped.
RESUMED = ("run", "score")

EPILOG = """\
commands (the default is run; COMMAND --help tells its options):
{commands}

examples:
  {program} --methods anoseg,ae_recon --category all
  {program} --methods 'anoseg,anoseg[coord=false,label=no-coord]' --dataset mvtec_ad --data-root DIR --profile full
"""


def _line(name: str, usage: str, about: str) -> str:
    typed = f"  {name} {usage}"
    return f"{typed:<25}{about}" if len(typed) < 25 else f"{typed}\n{'':<25}{about}"


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = Parser(prog=program().split()[-1])
    sub = top.add_subparsers(dest="command", metavar="{" + ",".join(COMMANDS) + "}")
    modules = {name: importlib.import_module(f"anoseg_bench.commands.{name}") for name in COMMANDS}
    lines = "\n".join(_line(name, command.USAGE, command.HELP) for name, command in modules.items())
    for name, command in modules.items():
        one = sub.add_parser(name, help=command.HELP, description=command.HELP)
        if name == COMMANDS[0]:
            one.formatter_class = argparse.RawDescriptionHelpFormatter
            one.epilog = EPILOG.format(commands=lines, program=program())
        command.add_arguments(one)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0 if all went well; 1 if a cell failed; 2 if what was asked for is wrong; 130 after Ctrl-C, 143 after SIGTERM.
    """
    make_streams_safe()
    argv = list(sys.argv[1:] if argv is None else argv)
    given = f"{program()} {shlex.join(argv)}".rstrip()
    if not argv or argv[0].startswith("-"):
        argv.insert(0, "run")
    elif argv[0] not in COMMANDS:
        print(f"error: Unknown command '{argv[0]}'. {nearest(argv[0], COMMANDS)}", file=sys.stderr)
        return 2
    stopped = 130
    if threading.current_thread() is threading.main_thread():

        def terminate(*_: object) -> None:  # as Ctrl-C does: what runs ends and its claims are released
            nonlocal stopped
            stopped = 143
            raise KeyboardInterrupt

        signal.signal(signal.SIGTERM, terminate)
    verbose = False
    try:
        arguments = parser().parse_args(argv)
        arguments.command_line, verbose = given, arguments.verbose
        return _run(arguments)
    except BrokenPipeError:  # the reader of a pipe went away
        return 1
    except KeyboardInterrupt:
        goes_on = "; finished cells are kept: run the same command again to continue" if argv[0] in RESUMED else ""
        print(f"stopped{goes_on}", file=sys.stderr)
        return stopped
    except Exception as error:
        if not isinstance(error, BenchError | OSError) and full_disk(error) is None:
            raise  # a fault of this program
        if verbose:
            traceback.print_exc()
        print(f"error: {describe(error)}", file=sys.stderr)
        return error.exit_code if isinstance(error, BenchError) else 1
    finally:
        drop_unwritten()


def _run(arguments: argparse.Namespace) -> int:
    """Run a command, and return its exit code; an exit by somebody else's code is an error."""
    try:
        return importlib.import_module(f"anoseg_bench.commands.{arguments.command}").main(arguments)
    except SystemExit as stop:
        from anoseg_bench.plugins import cause

        raise BenchError(f"The command was ended in its middle by code of a method or dataset: {cause(stop)}.") from stop
