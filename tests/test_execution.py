"""Runs that cannot be lost: real processes, killed, stopped, doubled, and methods that misbehave."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from anoseg_bench.cli import main
from anoseg_bench.execution.loop import Execution
from anoseg_bench.execution.worker import Job
from anoseg_bench.store.cells import Row, Run, Store
from tests.helpers import FAULTY, ROOT, Place, checkout_python, wait_until

#: Cells of the run whose numbers are known.
SEEDS = 8

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The numbers of an undisturbed run."""
    made = Place(tmp_path_factory.mktemp("undisturbed"))
    code, output = made.run("--seeds", ",".join(map(str, range(SEEDS))), "--workers", "2", "--threads", "1")
    assert code == 0, output
    return made.numbers()


def first_four(numbers: dict[str, dict]) -> dict[str, dict]:
    """Return the numbers of the seeds 0 to 3."""
    return {f"nothing-{seed}": numbers[f"nothing-{seed}"] for seed in range(4)}


class Task:
    """A task that never ends."""

    killed = False

    def outcome(self):
        return None

    def kill(self):
        self.killed = True


class Interrupted:
    """An engine during whose start of a task Ctrl-C, or SIGTERM, comes."""

    slots, queues = 1, False

    def __init__(self, number: signal.Signals) -> None:
        self.number, self.tasks = number, []

    def start(self, job):
        signal.raise_signal(self.number)
        self.tasks.append(Task())
        return self.tasks[-1]

    def wait(self, tasks, seconds):
        raise AssertionError("it was not interrupted")

    def close(self):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_task_that_starts_as_ctrl_c_comes_is_ended_too(tmp_path, number):
    def interrupt(*_):
        raise KeyboardInterrupt

    row = Row("a", "a", "d", "c", 0, "0" * 20)
    settings = dict.fromkeys(("title", "source", "method", "label", "dataset", "category", "device", "content", "log"), "")
    job = Job(
        **settings, key=row.key, cell=Store.name("a", row.key), config={}, options={}, root=None, exclude=(), seed=0, holdout=0.1,
        store=str(tmp_path / ".cells"), threads=1,
    )  # fmt: skip
    engine, observer = Interrupted(number), SimpleNamespace(started=lambda row: None)
    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(KeyboardInterrupt):
            Execution(Run(tmp_path / "r", rows=[row]), [(row, job)], engine, observer).go()
        assert [task.killed for task in engine.tasks] == [True] and row.status == "waiting"
        assert signal.getsignal(number) is interrupt
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_does_not_reach_the_server_of_workers_while_it_imports_and_memory_is_in_huge_pages():
    code = """
import os
import time
from multiprocessing import forkserver
from anoseg_bench.execution.engines import Setup
from anoseg_bench.execution.engines.local import LocalEngine
LocalEngine(Setup(workers=1))
server = f"/proc/{forkserver._forkserver._forkserver_pid}"
status = open(f"{server}/status").read()
print(int(next(line for line in status.splitlines() if line.startswith("SigBlk")).split()[1], 16) >> 1 & 1)
while b"forkserver" not in open(f"{server}/cmdline", "rb").read():  # still this program, about to become another
    time.sleep(0.01)
print("GLIBC_TUNABLES" in os.environ, b"glibc.malloc.hugetlb=1" in open(f"{server}/environ", "rb").read())
"""
    done = checkout_python(code)
    assert done.stdout.split() == ["1", "False", "True"], done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_what_a_method_forks_keeps_its_exit_code():
    code = """
import os, sys
import anoseg_bench.execution.engines.preload
child = os.fork()
if not child:
    sys.exit(4)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
    done = checkout_python(code)
    assert done.stdout.strip() == "4", done.stderr


# a method that misbehaves costs its own cell


def test_every_fault_costs_its_own_cell(place):
    reasons = {
        "raises": "RuntimeError: something broke",
        "exits_hard": "exit code 3 before it had a result",
        "calls_exit": "sys.exit(4)",
        "crashes": "SIGSEGV",
        "hangs": "longer than the 20 s of --timeout",
        "hangs_deaf": "longer than the 20 s of --timeout",
        "wrong_shape": "of shape (N, h, w)",
    }
    sound = ("nothing", "prints_binary", "forks", "leaves_a_child")
    code, output = place.run("--workers", "2", "--timeout", "20s", methods=",".join([*reasons, *sound]))
    assert code == 1, output
    rows = place.rows()
    for action, reason in reasons.items():
        row = rows[f"{action}-0"]
        assert row["status"] == "failed" and reason in row["error"] and "\n" not in row["error"], row
        assert reason in output
    assert {rows[f"{action}-0"]["status"] for action in sound} == {"done"}, output
    assert set(place.cells()) == {f"{action}-0" for action in sound}
    logs = place.folder / "results" / "r" / "logs"
    assert "Traceback" in next(logs.glob("raises*")).read_text()
    assert bytes(range(256)) in next(logs.glob("prints_binary*")).read_bytes()
    assert place.workers() == [] and place.left() == []
    assert f"{len(reasons)} of {len(rows)} cells failed" in output


@pytest.mark.skipif(sys.platform != "linux", reason="address-space limits are enforced on Linux")
def test_a_limit_of_memory_costs_its_own_cell(place):
    code, output = place.run("--memory", "24", methods="exhausts_memory,nothing")
    assert code == 1, output
    rows = place.rows()
    assert rows["exhausts_memory-0"]["status"] == "failed" and "emory" in rows["exhausts_memory-0"]["error"], rows
    assert rows["nothing-0"]["status"] == "done", rows


# what is killed


@needs_proc
def test_killed_in_every_way_in_turn_and_resumed(place, undisturbed):
    """Whatever is killed, what was finished stays, nothing half-done counts, and the same command goes on."""
    options = ("--seeds", ",".join(map(str, range(SEEDS))), "--workers", "2", "--threads", "1")
    finished: dict[str, dict] = {}
    for victim in ("parent", "group", "ctrl-c", "worker"):
        before = len(finished)
        process = place.start(*options, seconds=1.0)
        # a worker that is killed has just begun: of the last two both end at once
        known = -1 if victim == "worker" else before
        wait_until(lambda known=known: len(place.cells()) > known and place.workers(finished=False))
        if victim == "worker":
            os.kill(place.workers(finished=False)[-1], signal.SIGKILL)
        elif victim == "ctrl-c":
            os.killpg(process.pid, signal.SIGINT)
        else:
            (os.kill if victim == "parent" else os.killpg)(process.pid, signal.SIGKILL)
        output = process.communicate(timeout=120)[0]
        wait_until(lambda: not place.workers(), 20)
        assert output.count("stored already") == before, (victim, output)
        if victim == "worker":
            assert process.returncode == 1 and "SIGKILL" in output
            statuses = [row["status"] for row in place.rows().values()]
            assert statuses.count("failed") == 1 and {*statuses} == {"done", "cached", "failed"}, output
        elif victim == "ctrl-c":
            assert process.returncode == 130 and "run the same command again to continue" in output, output
            assert place.left() == []
        finished = place.cells()
        assert all(name in undisturbed for name in finished)
    code, output = place.run(*options, seconds=1.0)
    assert code == 0 and output.count("stored already") == len(finished) == SEEDS - 1, output
    assert place.numbers() == undisturbed and place.left() == []
    trainings = place.trainings()
    assert all(number >= 1 for number in trainings.values()) and sum(trainings.values()) <= SEEDS + 2 * 4, trainings


# several commands on one store


def test_several_commands_on_one_store(place, undisturbed):
    options = ("--seeds", "0,1,2,3", "--threads", "1")
    processes = [place.start(*options, seconds=0.5, out=f"r{n}") for n in range(3)]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert place.numbers() == first_four(undisturbed) and place.left() == []
    assert set(place.trainings().values()) == {1}
    for n in range(3):
        assert {row["status"] for row in place.rows(f"r{n}").values()} <= {"done", "cached"}


@needs_proc
def test_a_worker_stopped_past_its_heartbeat_is_taken_over_and_fenced(place, undisturbed):
    """After SIGCONT its result is thrown away, and its command takes the one that was accepted."""
    beat = ("--heartbeat", "0.05", "--threads", "1")  # stale after 3 s
    first = place.start(*beat, seconds=1.0, out="first")
    wait_until(lambda: len(place.workers()) == 1)
    worker = place.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    code, output = place.run(*beat, seconds=1.0, out="second")
    assert code == 0 and "another command is running it" in output, output
    accepted = next(place.store.glob("Faulty-*/cell.json"))
    before = accepted.stat().st_mtime_ns
    os.kill(worker, signal.SIGCONT)
    output = first.communicate(timeout=120)[0]
    assert first.returncode == 0 and "by another command" in output, output
    assert accepted.stat().st_mtime_ns == before
    assert place.trainings() == {"nothing-0": 2} and place.left() == []
    assert place.numbers() == {"nothing-0": undisturbed["nothing-0"]}


@needs_proc
def test_a_command_stopped_past_its_heartbeat_and_continued(place, undisturbed):
    """Its worker goes on without it, and the command takes up the result."""
    first = place.start("--heartbeat", "0.05", "--threads", "1", seconds=1.0)
    wait_until(lambda: len(place.workers()) == 1)
    os.kill(first.pid, signal.SIGSTOP)
    wait_until(lambda: len(place.cells()) == 1)
    time.sleep(4)
    os.kill(first.pid, signal.SIGCONT)
    output = first.communicate(timeout=60)[0]
    assert first.returncode == 0, output
    assert place.numbers() == {"nothing-0": undisturbed["nothing-0"]} and place.trainings() == {"nothing-0": 1}


def test_two_variants_of_one_configuration_train_once(place):
    variants = ",".join(f"{FAULTY}[action=nothing,marks={place.marks},label={label}]" for label in "ab")
    assert place.run("--methods", variants, "--workers", "2")[0] == 0
    assert place.trainings() == {"nothing-0": 1}


# the plan


def test_shards_divide_the_cells(place, undisturbed):
    options = ("--seeds", "0,1,2,3", "--threads", "1")
    first = place.start(*options, "--shard", "1/2")
    second = place.start(*options, "--shard", "2/2")
    outputs = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert place.numbers() == first_four(undisturbed) and set(place.trainings().values()) == {1}
    assert "report" in outputs[0]
    assert main(["report", str(place.folder / "results" / "r")]) == 0


def test_timings_and_provenance(place):
    assert place.run("--seeds", "0,1", "--workers", "2", "--threads", "1", seconds=1.0)[0] == 0
    for record in place.cells().values():
        timing, provenance = record["timing"], record["provenance"]
        assert timing["train_s"] > 1.0 > timing["train_cpu_s"] >= 0 and timing["predict_cpu_s"] >= 0
        assert provenance["threads"] == 1 and provenance["concurrency"] == 2
        assert record["source"] and {"commit", "dirty", "versions", "device"} <= set(provenance)


def test_status_of_a_run_while_it_runs(place):
    process = place.start("--seeds", "0,1", "--workers", "1", seconds=30.0)
    wait_until(place.workers)
    status = [sys.executable, str(ROOT / "run_bench.py"), "status", str(place.folder / "results" / "r")]

    def shown() -> str:
        return subprocess.run(status, capture_output=True, text=True, check=True).stdout

    wait_until(lambda: "train 1/10" in shown())
    lines = shown().splitlines()
    assert "running" in lines[0] and "left" in lines[0] and "loss" in lines[0], lines
    assert "waiting" in lines[1] and lines[-1] == "2 cells: 1 running, 1 waiting"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not place.workers(), 20)
    assert shown().splitlines()[-1] == "2 cells: 2 waiting"


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_costs_the_cell_and_is_named(place):
    small = place.folder / "results"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(small)], capture_output=True, check=False
    ).returncode:
        pytest.skip("this sandbox mounts nothing")
    try:
        with (small / "ballast").open("wb") as file:
            while (free := os.statvfs(small)).f_bavail * free.f_frsize > 20_000:
                file.write(bytes(4096))
                file.flush()
        code, output = place.run()
        assert code == 1 and "the disk is full" in output and "Traceback" not in output, output
        assert place.cells() == {}
        (small / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,size=40m", str(small)], check=True)
        code, output = place.run()
        assert code == 0, output
    finally:
        subprocess.run(["umount", str(small)], check=True)


# Ray


def test_ray_gives_the_numbers_of_the_local_engine_and_a_killed_worker_costs_one_cell(place, undisturbed):
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    process = place.start("--engine", "ray", "--workers", "2", "--seeds", "0,1", "--threads", "1", seconds=4.0)
    wait_until(place.workers, 120)
    victim = place.workers()[0]
    wait_until(lambda: len(place.workers()) == 2, 120)
    os.kill(victim, signal.SIGKILL)
    output = process.communicate(timeout=240)[0]
    assert process.returncode == 1, output
    assert sorted(row["status"] for row in place.rows().values()) == ["done", "failed"], output
    code, output = place.run("--workers", "2", "--seeds", "0,1", "--threads", "1", seconds=2.0)
    assert code == 0, output
    assert place.numbers() == {name: undisturbed[name] for name in ("nothing-0", "nothing-1")}
