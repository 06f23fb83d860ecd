"""Folders that one command at a time works at: the next is refused, and told who is there.

A command at a folder holds a claim of its own in ``<folder>/.claims``, which says how it was called, until it ends, however it
ends. Commands of one plan (shards) may work side by side. Who looks at the others' claims and adds its own holds a claim that only
one can hold, the door, so that of two commands that start together one sees the other.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from anoseg_bench.errors import UsageError
from anoseg_bench.formatting import one_line, shown_path
from anoseg_bench.store.claims import BEAT, Claim, Holder, Watch, is_here

#: The folder of the claims, in that which is worked at.
CLAIMS = ".claims"
_DOOR = "door"
#: Seconds between two looks at claims of which this machine cannot say whether they are alive.
_LOOK = 0.25


@contextlib.contextmanager
def working_at(
    folder: Path, command: str, plan: str = "", interval: float = BEAT, tell: Callable[[str], None] = lambda note: None
) -> Iterator[None]:
    """Work at a folder in the block, alone or beside commands of the same plan.

    Parameters
    ----------
    command : str
        How the command was called, for those that come later.
    plan : str
        What names the plan of a shard; "" for a command that must be alone.
    interval : float
        Seconds between two signs of life.
    tell : callable
        Takes a note where it must be found out whether a command of another machine still lives, which may take a minute.

    Raises
    ------
    UsageError
        If another command works there.
    """
    claims, is_new = folder / CLAIMS, not folder.exists()
    try:
        own = _enter(folder, Watch(claims), command, plan, interval, tell)
        with own.beating(interval):
            yield
    finally:
        with contextlib.suppress(OSError):  # others are in it
            claims.rmdir()
            if is_new:
                folder.rmdir()  # where nothing came of it


def _enter(folder: Path, watch: Watch, command: str, plan: str, interval: float, tell: Callable[[str], None]) -> Claim:
    first: dict[str, Holder] = {}
    while True:
        with contextlib.suppress(FileNotFoundError):  # the last command that left took the folder of the claims away
            if (door := Claim.take(watch, _DOOR)) is not None:
                try:
                    others = _others(watch, plan)
                    name = f"command-{uuid.uuid4().hex}"
                    if not others and (own := Claim.take(watch, name, "", interval, command, plan)) is not None:
                        return own
                finally:
                    door.release()
                for claim, holder in others.items():
                    if holder is None:
                        continue
                    known = first.setdefault(claim, holder)
                    where = shown_path(folder)
                    who = f"process {holder.pid} on {holder.host.split()[0]} ({one_line(holder.command)})"
                    if is_here(holder) or holder.beats != known.beats:
                        raise UsageError(f"Another command works at '{where}': {who}; wait for its end, or use another folder.")
                    if known is holder:
                        tell(f"note: looking for up to a minute whether a command still works at '{where}': {who}")
        time.sleep(_LOOK)


def _others(watch: Watch, plan: str) -> dict[str, Holder | None]:
    """Return the claims of commands that may be at work and must not be beside one of that plan; those of dead ones go."""
    others: dict[str, Holder | None] = {}
    for claim in {path.stem for path in watch.folder.glob("command-*.*")}:
        holder = watch.holder(claim)
        if not watch.is_claimed(claim):
            for path in watch.folder.glob(f"{claim}.*"):
                path.unlink(missing_ok=True)
        elif not (plan and holder is not None and holder.plan == plan):
            others[claim] = holder
    return others
