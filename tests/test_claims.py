"""Claims: one holder at a time, stale ones taken over, no trust in clocks."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from anoseg_bench import IMPORT_PATH
from anoseg_bench.store import claims
from anoseg_bench.store.cells import Store
from anoseg_bench.store.claims import Claim, FencedError, Watch, claimed_cells, is_gone, latest, read, state


class Clock:
    """A monotonic clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch(tmp_path):
    return Watch(tmp_path / "claims", 60.0, Clock())


def of_another_machine(claim: Claim) -> None:
    """Make a claim look like that of a process elsewhere, of which this machine knows nothing."""
    claim.holder = replace(claim.holder, host="elsewhere")
    claim._write()


def test_one_holder_at_a_time(watch):
    first = Claim.take(watch, "a-1")
    assert first is not None and first.held() and first.fence == 1
    assert Claim.take(watch, "a-1") is None and Claim.take(watch, "a-2") is not None
    assert set(claimed_cells(watch.folder)) == {"a-1", "a-2"}
    first.release()
    again = Claim.take(watch, "a-1")
    assert again is not None and not first.held()


def test_a_claim_without_beats_is_taken_over_and_its_holder_fenced(watch):
    first = Claim.take(watch, "a-1")
    of_another_machine(first)
    assert watch.is_claimed("a-1")
    watch.clock.now += 59
    first.beat()
    assert watch.is_claimed("a-1")
    watch.clock.now += 59
    assert watch.is_claimed("a-1") and Claim.take(watch, "a-1") is None
    watch.clock.now += 2
    second = Claim.take(watch, "a-1")
    assert second is not None and second.fence == 2
    with pytest.raises(FencedError):
        first.check()
    with pytest.raises(FencedError):
        first.beat()
    first.progress("train", 1, 2)
    first.release()
    assert second.held() and latest(watch.folder, "a-1")[0] == 2


def test_what_was_taken_over_does_not_come_back(watch):
    """A holder stopped in the middle of a beat writes into no file that it does not own."""
    first = Claim.take(watch, "a-1")
    of_another_machine(first)
    watch.is_claimed("a-1")
    watch.clock.now += 61
    second = Claim.take(watch, "a-1")
    first._write()
    assert [p.name for p in watch.folder.iterdir()] == ["a-1.2"] and second.held()


def test_jumps_of_the_wall_clock_change_nothing(watch, monkeypatch):
    first = Claim.take(watch, "a-1")
    of_another_machine(first)
    assert watch.is_claimed("a-1")
    for jump in (1e9, -1e9):
        monkeypatch.setattr(claims.time, "time", lambda jump=jump: 1.7e9 + jump)
        os.utime(first.path, (1.7e9 - jump, 1.7e9 - jump))
        assert watch.is_claimed("a-1")
        first.beat()
        assert watch.is_claimed("a-1") and first.held()


def test_a_process_that_ended_on_this_machine_is_known_at_once(watch):
    first = Claim.take(watch, "a-1")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    first.holder = replace(first.holder, pid=ended.pid)
    first._write()
    assert is_gone(read(first.path)) and not watch.is_claimed("a-1")
    assert Claim.take(watch, "a-1") is not None


def test_a_process_number_used_again_is_not_taken_for_the_holder(watch):
    first = Claim.take(watch, "a-1")
    first.holder = replace(first.holder, started="12")
    first._write()
    assert not watch.is_claimed("a-1")


def test_what_a_dead_worker_left_goes_and_that_of_others_stays(tmp_path):
    store = Store(tmp_path)
    watch = Watch(store.claims)
    first = Claim.take(watch, "a-1")
    half, other = tmp_path / ".tmp-a-1-x", tmp_path / ".tmp-a-2-x"
    half.mkdir()
    other.mkdir()
    store.abandon("a-1", os.getpid())  # it lives
    assert first.held() and half.exists()
    first.holder = replace(first.holder, started="12")
    first._write()
    store.abandon("a-1", os.getpid() + 1)
    assert first.path.exists() and half.exists()
    store.abandon("a-1", os.getpid())
    assert not first.path.exists() and not half.exists() and other.exists()


def test_a_cell_whose_writer_ended_after_its_last_act_is_given_free(tmp_path):
    store = Store(tmp_path)
    first = Claim.take(Watch(store.claims), "a-1")
    stored, gave_way = tmp_path / "a-1", tmp_path / ".tmp-a-1-x-old"
    stored.mkdir()
    gave_way.mkdir()
    store.recover("a-1")  # its writer lives
    assert first.held() and gave_way.exists()
    of_another_machine(first)
    store.recover("a-1")  # nobody here knows
    assert first.path.exists() and gave_way.exists()
    first.holder = replace(first.holder, host=claims.this_host(), started="12")
    first._write()
    store.recover("a-1")
    assert not first.path.exists() and not gave_way.exists() and stored.exists()


@pytest.mark.parametrize("claimed", [False, True])
def test_a_cell_that_gave_way_to_one_never_written_comes_back(tmp_path, claimed):
    store = Store(tmp_path)
    (tmp_path / ".tmp-a-1-x-old").mkdir()
    if claimed:
        first = Claim.take(Watch(store.claims), "a-1")
        first.holder = replace(first.holder, started="12")
        first._write()
    store.recover("a-1")
    assert [path.name for path in tmp_path.iterdir() if path != store.claims] == ["a-1"] and not claimed_cells(store.claims)


def test_an_observer_passes_on_what_it_found_stale(watch):
    first = Claim.take(watch, "a-1")
    of_another_machine(first)
    before = state(first.path, read(first.path))
    fresh = Watch(watch.folder)
    assert Claim.take(fresh, "a-1") is None
    first.beat()
    assert Claim.take(fresh, "a-1", before) is None  # it came to life again
    assert Claim.take(fresh, "a-1", state(first.path, read(first.path))).fence == 2


def test_many_takers_of_one_stale_claim(watch):
    """Of processes that all see the same stale claim, one gets it."""
    code = (
        "import sys; from pathlib import Path; from anoseg_bench.store.claims import Claim, Watch\n"
        "sys.stdin.readline(); print(Claim.take(Watch(Path(sys.argv[1])), 'a-1') is not None, flush=True); sys.stdin.readline()"
    )
    first = Claim.take(watch, "a-1")
    first.holder = replace(first.holder, started="12")
    first._write()
    takers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(watch.folder)],
            env=os.environ | {"PYTHONPATH": str(IMPORT_PATH)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for taker in takers:
        taker.stdin.write("\n")
        taker.stdin.flush()
    answers = [taker.stdout.readline().strip() for taker in takers]
    for taker in takers:
        taker.communicate("\n")
    assert sorted(answers) == ["False"] * 7 + ["True"]


def test_an_unreadable_claim_counts_until_it_is_stale(watch):
    watch.folder.mkdir()
    (watch.folder / "a-1.1").touch()
    assert watch.is_claimed("a-1")
    watch.clock.now += 61
    assert not watch.is_claimed("a-1")
    assert Claim.take(watch, "a-1").fence == 2
    assert [p.name for p in watch.folder.iterdir()] == ["a-1.2"]
