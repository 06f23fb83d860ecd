"""What a user sees while a run goes on."""

from __future__ import annotations

from types import SimpleNamespace

from anoseg_bench import console
from anoseg_bench.console import Console
from anoseg_bench.execution.narrator import Narrator
from anoseg_bench.store.cells import Row, Run


def test_plain_lines_tell_the_time_left_of_a_stage(monkeypatch, capsys):
    clock = iter((0.0, 5.0, 30.0, 31.0, 60.0, 100.0, 120.0))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    out = Console()
    for done in (10, 20, 40, 41, 70):
        out.progress("cell", "train", done, 130, 0.5)
    assert capsys.readouterr().out.splitlines() == [
        "  cell train: 40/130, loss 0.5000, about 2 min left",
        "  cell train: 70/130, loss 0.5000, about 60 s left",
    ]
    out.close("cell")
    for _ in range(2):
        out.progress("cell", "train", 0, 130)
    assert capsys.readouterr().out.splitlines() == ["  cell train: 0/130"]


def test_the_run_tells_the_time_left_once_each_method_was_timed(tmp_path, capsys):
    rows = [Row(m, m, "d", category, 0, key=f"{m} {category}") for category in "abc" for m in ("slow", "fast")]
    told = Narrator(Run(tmp_path, rows=rows), Console(), slots=2)
    for row, seconds in zip(rows, (100.0, 20.0, 120.0, 30.0), strict=False):
        row.settle("done", "", SimpleNamespace(value=lambda name: 0.5, folder=tmp_path))
        told.ended(row, seconds, "")
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition("; ")[2] for line in lines] == ["100 s", "about 2 min left", "about 2 min left", "about 2 min left"]
