"""Kill runs at random moments, resume them, and count what was lost: the long run behind docs/reliability.md.

    python -m tests.tools.faults --moments 50 --out docs/reliability-table.md

Each trial is a run of six cells by two workers, in a folder of its own; the command, a worker, or the whole process group gets
SIGKILL (or the command SIGINT) at a moment drawn between its start and the end of the last cell of an undisturbed run; then the
same command resumes it. Afterwards the numbers must be those of the undisturbed run, no finished cell may have run again, at most
the cells in flight may have, and nothing half-done may lie about. It stops with exit code 1 where one shows otherwise.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.helpers import Place, wait_until

SEEDS, WORKERS, SECONDS = 6, 2, 0.8
OPTIONS = ("--seeds", ",".join(map(str, range(SEEDS))), "--workers", str(WORKERS), "--threads", "1")
VICTIMS = ("command", "worker", "process group", "command, by Ctrl-C")


def strike(place: Place, process, victim: str, rng: random.Random) -> bool:
    """Kill the victim, a worker as soon as there is one; False where the command had ended."""
    while process.poll() is None:
        workers = place.workers() if victim == "worker" else []
        if victim == "worker" and not workers:
            time.sleep(0.01)
            continue
        if victim == "worker":
            os.kill(rng.choice(workers), signal.SIGKILL)
        elif victim == "process group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(process.pid, signal.SIGKILL if victim == "command" else signal.SIGINT)
        return True
    return False


def trial(victim: str, moment: float, reference: dict, rng: random.Random) -> dict[str, int]:
    """Run, kill, resume; return the counts of one trial.

    Raises
    ------
    AssertionError
        If anything was lost, repeated, torn or left behind.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        process = place.start(*OPTIONS, seconds=SECONDS, report=True)
        time.sleep(moment)
        hit = strike(place, process, victim, rng)
        process.communicate(timeout=300)
        wait_until(lambda: not place.workers(), 30)
        finished, before = place.numbers(), place.trainings()
        assert all(reference[name] == values for name, values in finished.items()), "a finished cell has other numbers"
        code, output = place.run(*OPTIONS, seconds=SECONDS, report=True)
        assert code == 0, output
        assert place.numbers() == reference, "the numbers differ from those of the undisturbed run"
        after = place.trainings()
        assert all(after[name] == before[name] for name in finished), "a finished cell ran again"
        repeated = sum(after.values()) - SEEDS
        assert repeated <= WORKERS, f"{repeated} cells ran twice, but only {WORKERS} were in flight"
        assert place.left() == [], f"left behind: {place.left()}"
        assert not (place.store / "set-aside").exists(), "a cell was torn"
        return {"hit": int(hit), "finished": len(finished), "repeated": repeated}


def main() -> int:
    """Run all trials and write the table."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--moments", type=int, default=50, help="per kind of fault")
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--out", type=Path, help="where to write the table")
    arguments = parse.parse_args()
    rng = random.Random(arguments.seed)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it, and its children
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        began = time.monotonic()
        code, output = place.run(*OPTIONS, seconds=SECONDS)  # no report: the cells' time
        assert code == 0, output
        length, reference = time.monotonic() - began, place.numbers()
    print(f"undisturbed: {length:.1f} s, {len(reference)} cells", flush=True)
    lines = [
        "| killed | moments | hit while it ran | finished cells lost | cells repeated (in flight) | torn files |",
        "|---|---|---|---|---|---|",
    ]
    for victim in VICTIMS:
        counts = []
        for number in range(arguments.moments):
            moment = rng.uniform(0.2, length)
            try:
                counts.append(trial(victim, moment, reference, rng))
            except AssertionError as error:
                print(f"{victim}, {moment:.2f} s: {error}", file=sys.stderr)
                return 1
            print(f"{victim} {number + 1}/{arguments.moments}: after {moment:.2f} s, {counts[-1]}", flush=True)
        hits, repeated = (sum(c[name] for c in counts) for name in ("hit", "repeated"))
        lines.append(f"| {victim} | {len(counts)} | {hits} | 0 of {sum(c['finished'] for c in counts)} | {repeated} | 0 |")
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
