"""Claims: which process works at a cell, so that no two commands on one store work at the same one.

A claim is a file ``<store>/claims/<cell>.<fence>``; the highest fence counts. Who makes the file of the next fence, where there
is none or the last is stale, holds the cell: it is written under another name and then linked, which is atomic on local disks
and on shared folders, and fails for all but one. The holder's beats change the file; a claim that does not change for
`PATIENCE` beats is stale, and so is, at once, that of a process which this machine knows to be gone. No clocks are compared:
an observer counts by its own monotonic clock how long it has seen no change. A holder that was taken over finds its fence gone
when it comes to write its result (`Claim.held`), which is then thrown away.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

#: Seconds between two beats.
BEAT = 1.0
#: Beats that may fail to come before a claim is stale.
PATIENCE = 60


class FencedError(Exception):
    """A claim was taken over by another process while its holder did not beat."""


@dataclass(frozen=True)
class Holder:
    """What a claim says of its holder and of how far it is.

    Attributes
    ----------
    host : str
        The machine, with its start and its process namespace, where the system tells them.
    started : str
        When the process started, in the system's own count, so that a process number used again is not taken for it.
    stage, done, total : str, int, int
        Its progress; `total` is 0 before the first.
    loss : float or None
        The training loss, in training.
    interval : float
        Seconds between its beats.
    since : float
        The holder's own time when it took the claim, s; to show, never to compare.
    beats : int
        Its heartbeat.
    command, plan : str
        How the command was called that works at a folder, and what names its plan, see `anoseg_bench.store.folders`.
    """

    token: str
    host: str
    pid: int
    started: str
    since: float
    interval: float = BEAT
    stage: str = "starting"
    done: int = 0
    total: int = 0
    loss: float | None = None
    beats: int = 0
    command: str = ""
    plan: str = ""


@cache
def this_host() -> str:
    """Return what tells this machine, as its processes see each other, from others."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8])
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def start_of(pid: int) -> str | None:
    """Return when a process of this machine started; "" where the system does not tell, None where it is gone (or a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (FileNotFoundError, ProcessLookupError):
        pass  # it ended, or belongs to a user whose processes are hidden
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return ""


def is_gone(holder: Holder) -> bool:
    """Return whether this machine knows that the holder's process ended."""
    return holder.host == this_host() and start_of(holder.pid) != holder.started


def is_here(holder: Holder) -> bool:
    """Return whether this machine knows that the holder's process lives."""
    return holder.host == this_host() and holder.started != "" and start_of(holder.pid) == holder.started


def latest(folder: Path, cell: str) -> tuple[int, Path | None]:
    """Return the highest fence of a cell and its file; (0, None) where nobody claims it."""
    claims = [(int(path.suffix[1:]), path) for path in folder.glob(f"{cell}.*") if path.suffix[1:].isdecimal()]
    return max(claims, default=(0, None))


def read(path: Path) -> Holder | None:
    """Return what a claim says; None where it is gone, or unreadable at this moment."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def state(path: Path, holder: Holder | None) -> str:
    """Return what names the present state of a claim, so that another process can tell whether it changed."""
    return f"{path.name} {holder.token} {holder.beats}" if holder else path.name


@dataclass
class Watch:
    """What one process has seen of the claims of others, to tell the stale ones.

    Parameters
    ----------
    folder : Path
        ``<store>/claims``.
    patience : float
        Seconds without a change after which a claim is stale.
    clock : callable
        The observer's monotonic clock, s.
    """

    folder: Path
    patience: float = BEAT * PATIENCE
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, tuple[tuple[Path, Holder | None], float]] = field(default_factory=dict)

    def holder(self, cell: str) -> Holder | None:
        """Return who is at a cell; None where nobody is."""
        path = latest(self.folder, cell)[1]
        return read(path) if path else None

    def stale(self, cell: str) -> str | None:
        """Return the state of a claim that may be taken over, "" where there is none; None where a living process is at the cell.

        To be asked again and again for claims of other machines.
        """
        path = latest(self.folder, cell)[1]
        if path is None:
            self._seen.pop(cell, None)
            return ""
        holder = read(path)
        if holder is not None and is_gone(holder):
            return state(path, holder)
        known, since = self._seen.get(cell, (None, 0.0))
        if known != (path, holder):
            self._seen[cell] = ((path, holder), self.clock())
            return None
        patience = max(self.patience, PATIENCE * holder.interval if holder else 0.0)
        return None if self.clock() - since < patience else state(path, holder)

    def is_claimed(self, cell: str) -> bool:
        """Return whether a living process is at a cell."""
        return self.stale(cell) is None


@dataclass
class Claim:
    """A claim that this process holds; see `take`."""

    folder: Path
    cell: str
    fence: int
    holder: Holder
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def path(self) -> Path:
        """The claim's file."""
        return self.folder / f"{self.cell}.{self.fence}"

    @classmethod
    def take(
        cls, watch: Watch, cell: str, stale: str = "", interval: float = BEAT, command: str = "", plan: str = ""
    ) -> Claim | None:
        """Claim a cell; None where another process is at it.

        Parameters
        ----------
        stale : str
            What `Watch.stale` of another observer returned: that claim is taken over unless it changed since.
        interval : float
            Seconds between the holder's beats.
        command, plan : str
            See `Holder`; the first 200 characters of the command are kept.

        Raises
        ------
        OSError
            If the store cannot be written.
        """
        folder = watch.folder
        folder.mkdir(parents=True, exist_ok=True)
        fence, old = latest(folder, cell)
        if old is not None:  # compared and replaced under the same number, so that no claim made meanwhile is stolen
            current = state(old, read(old))
            if current != stale and watch.stale(cell) != current:
                return None
        me = os.getpid()
        holder = Holder(
            uuid.uuid4().hex, this_host(), me, start_of(me) or "", time.time(), interval, command=command[:200], plan=plan
        )
        claim = cls(folder, cell, fence + 1, holder)
        written = folder / f".{holder.token}"
        try:
            written.write_bytes(claim._text())
            os.link(written, claim.path)
        except FileExistsError:
            return None
        finally:
            written.unlink(missing_ok=True)
        if old is not None:
            old.unlink(missing_ok=True)
        if claim.held():
            return claim
        claim.path.unlink(missing_ok=True)  # it was made below the fence of a claim that is not stale
        return None

    def held(self) -> bool:
        """Return whether the claim is still this process's: no higher fence, and its own name in the file."""
        fence, path = latest(self.folder, self.cell)
        there = read(path) if path else None
        return fence == self.fence and there is not None and there.token == self.holder.token and os.getpid() == self.holder.pid

    def check(self) -> None:
        """Raise FencedError unless the claim is still held."""
        if not self.held():
            raise FencedError(self.cell)

    def progress(self, stage: str, done: int, total: int, loss: float | None = None) -> None:
        """Note how far the holder is; the next beat tells others."""
        with self._lock:
            self.holder = replace(self.holder, stage=stage, done=done, total=total, loss=loss)

    def beat(self) -> None:
        """Show that the holder lives.

        Raises
        ------
        FencedError
            If another process holds the cell now.
        """
        with self._lock:
            self.holder = replace(self.holder, beats=self.holder.beats + 1)
        if not self.held():
            raise FencedError(self.cell)
        self._write()

    def _text(self) -> bytes:
        with self._lock:
            return json.dumps(asdict(self.holder)).encode().ljust(2048)

    def _write(self) -> None:
        """Write into the file in place, never making it: what was taken over does not come back."""
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(self.path, os.O_WRONLY)
            try:
                os.pwrite(descriptor, self._text(), 0)
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def beating(self, interval: float, each: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Beat in a thread while the block runs, calling `each` at every beat; release the claim at its end."""
        over = threading.Event()
        me = os.getpid()

        def run() -> None:
            while not over.wait(interval):
                try:
                    self.beat()
                    each()
                except FencedError:
                    return
                except OSError:  # the disk may be full or away for a while: the next beat may come through
                    continue

        thread = threading.Thread(target=run, name=f"heartbeat of {self.cell}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            if os.getpid() == me:
                thread.join()
                self.release()

    def release(self) -> None:
        """Release the claim, if it is still held."""
        with contextlib.suppress(OSError):
            if self.held():
                self.path.unlink()


def left_by(folder: Path, cell: str, pid: int | None = None) -> Path | None:
    """Return the claim of a cell that a process (None: any) of this machine left behind when it ended; None where there is none."""
    path = latest(folder, cell)[1]
    holder = read(path) if path else None
    left = holder is not None and is_gone(holder) and pid in (None, holder.pid)
    return path if left else None


def claimed_cells(folder: Path) -> dict[str, Holder]:
    """Return the claims there are, living or not, by cell."""
    cells = {path.name.rpartition(".")[0] for path in folder.glob("*") if path.suffix[1:].isdecimal()}
    holders = {cell: latest(folder, cell)[1] for cell in cells}
    return {cell: holder for cell, path in holders.items() if path is not None and (holder := read(path)) is not None}
