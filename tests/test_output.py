"""What commands print and leave: any encoding, a full disk, two at once, names of any length, whole reports and predictions."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import unicodedata
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anoseg_bench.cli import main
from anoseg_bench.datasets.mvtec import MVTecLayout
from anoseg_bench.errors import DataError, UsageError, describe
from anoseg_bench.evaluation.inspection import leave_out
from anoseg_bench.evaluation.maps import map_name
from anoseg_bench.evaluation.predict import earlier_predictions
from anoseg_bench.execution import worker
from anoseg_bench.execution.worker import Outcome, execute_logged
from anoseg_bench.report.frame import FileNames
from anoseg_bench.store import files, folders
from anoseg_bench.store.claims import Claim, Watch, this_host
from anoseg_bench.store.files import put_in_place, staged, uninterrupted
from anoseg_bench.store.folders import CLAIMS, working_at
from anoseg_bench.streams import make_streams_safe
from tests.helpers import ROOT, cells, checkout_python, make_category, rows, usage_error

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(autouse=True)
def without_galleries(monkeypatch):
    """Reports draw nothing here, which takes most of their time."""
    monkeypatch.setattr("anoseg_bench.report.compose.write_gallery", lambda *given: [])
    monkeypatch.setattr("anoseg_bench.report.compose.rank_figure", lambda *given: None)


def scored_by(run: Path) -> set[str]:
    """Return the seeds that the parts of a report are of, as they say themselves."""
    seeds = {row["seed"] for row in rows(run)}
    notes = (run / "tables" / "summary.md").read_text(encoding="utf-8")
    page = (run / "report.html").read_text(encoding="utf-8")
    return (
        seeds | {f"{seed}" for seed in range(3) if f"seed {seed}" in notes} | {f"{s}" for s in range(3) if f'"seeds":[{s}]' in page}
    )


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.startswith((".tmp", CLAIMS))]


class Filling:
    """A disk that is full from the n-th file on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int, error: BaseException = FULL) -> None:
        self.room, self.error = room, error
        write = Path.write_bytes
        monkeypatch.setattr(files.Path, "write_bytes", lambda path, content: self.take(path) or write(path, content))

    def take(self, path: Path) -> None:
        self.room -= "claims" not in path.parent.name
        if self.room < 0:
            raise self.error


# encodings


@given(st.text(), st.sampled_from(["ascii", "latin-1", "cp1252", "cp437", "koi8-r", "shift_jis", "utf-8", "utf-16", "cp037"]))
@settings(max_examples=200, deadline=None)
def test_any_text_goes_to_a_stream_of_any_encoding(text, encoding):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline=""))
        make_streams_safe()
        print(text, end="", flush=True)
        shown = sys.stdout.buffer.getvalue().decode(encoding)
    if text.encode(encoding, "ignore").decode(encoding) == text:
        assert shown == text


def test_every_command_prints_to_a_stream_that_lacks_signs(bench, tmp_path, monkeypatch):
    make_category(tmp_path / "data", "größe 中")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    data = ["--dataset", "mvtec_layout", "--data-root", str(tmp_path / "data")]
    train = [*data, "--methods", "pixel_stats,random", "--profile", "demo", "--out", "r", "--workers", "0", "--keep-models"]
    assert main(train) == 0
    image = str(tmp_path / "data" / "größe 中" / "test" / "good" / "000.png")
    model = ["--run", "r", "--method", "random", "--category", "größe 中", image, "--out", "p"]
    for command in (["status", "r"], ["list", *data], ["report", "r"], [*train, "--dry-run"], ["predict", *model]):
        assert main(command) == 0, command
    assert main(["report", "größe"]) == 2
    assert "grosse ?" in stream.buffer.getvalue().decode("ascii")


def test_a_worker_logs_a_title_that_its_encoding_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    monkeypatch.setattr(worker, "execute", lambda job: Outcome("done"))
    job = worker.Job(
        **{name: "" for name in worker.Job.__dataclass_fields__} | {"title": "größe †", "log": str(tmp_path / "l"), "memory": None}
    )
    assert execute_logged(job).status == "done"


def test_a_stream_that_takes_nothing_gives_one_line():
    command = [sys.executable, str(ROOT / "run_bench.py")]
    for arguments in (["list"], ["--help"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run([*command, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 1 and done.stderr.startswith("error: the disk is full") and done.stderr.count("\n") == 1


def test_names_in_another_encoding_than_the_systems_are_refused_in_one_line(bench, widget):
    image = widget / "widget" / "test" / "good" / "000.png"
    try:
        os.rename(image, os.fsencode(image.parent) + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes no such names")
    assert bench.run(widget, "--out", "r", "--workers", "0") == 1
    assert "caf\\udce9" in bench.err and "rename it" in bench.err and "Traceback" not in bench.err


# a full disk


def test_a_full_disk_is_named_whatever_a_library_made_of_it():
    def raised(make) -> Exception:
        try:
            make()
        except Exception as error:
            return error
        raise AssertionError

    def close_fails():
        try:
            raise FULL
        finally:
            raise ValueError("Can't close the ZIP file while there is an open writing handle on it.")

    quota = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/data/x")
    for error in (
        FULL,
        raised(close_fails),
        RuntimeError(f"Error while serializing: I/O error: {os.strerror(errno.ENOSPC)} (os error 28)"),
    ):
        assert describe(error).startswith("the disk is full")
    assert describe(quota).startswith("the disk is full (/data/x)")
    assert describe(ValueError("no")) == "ValueError: no"
    assert describe(DataError("Expected a map.")) == "Expected a map."


def test_a_disk_that_fills_up_while_the_report_is_written_leaves_the_earlier_one(bench, widget, monkeypatch):
    assert bench.run(widget, "--out", "r", "--workers", "0") == 0
    before = (bench.folder / "r" / "report.json").read_bytes()
    for room in (0, 30):
        with monkeypatch.context() as patch:
            Filling(patch, room)
            assert bench("report", "r") == 1
        assert bench.err.startswith("error: the disk is full (") and bench.err.count("\n") == 1
        assert not left_over(bench.folder / "r")
        assert (bench.folder / "r" / "report.json").read_bytes() == before and scored_by(bench.folder / "r") == {"0"}


@pytest.mark.parametrize("room", [0, 2])
def test_a_disk_that_fills_up_while_a_cell_is_written_costs_this_cell(bench, widget, monkeypatch, room):
    with monkeypatch.context() as patch:
        Filling(patch, room)
        assert bench.run(widget, "--out", "r", "--workers", "0", "--save-maps", "--keep-models") == 1
    assert "the disk is full" in cells(bench.folder / "r")[0]["error"]
    assert not [*(bench.folder / ".cells").glob("pixel_stats-*")] and not [*(bench.folder / ".cells").glob(".tmp*")]


# reports


def test_a_report_that_was_stopped_passes_for_nobodys(bench, widget, monkeypatch):
    """Tables of one seed never stand beside the note, or the page, of another."""
    run = bench.folder / "r"
    command = partial(bench.run, widget, "--out", "r", "--workers", "0", "--seeds")
    assert command("0") == 0
    before = (run / "report.json").stat().st_mtime_ns
    with monkeypatch.context() as patch:
        Filling(patch, 20, KeyboardInterrupt())
        assert command("1") == 130
    assert scored_by(run) == {"0"}
    assert command("0") == 0 and (run / "report.json").stat().st_mtime_ns == before  # whole, and known to be
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", Moves(12))
        assert command("1") == 130
    assert not any((run / name).exists() for name in ("report.json", "report.html", "results.csv"))
    assert command("0") == 0 and scored_by(run) == {"0"} and not left_over(run)


class Moves:
    """Renames that end the process at the n-th file of a report, as SIGKILL does: nothing more is done."""

    def __init__(self, number: int) -> None:
        self.number, self.rename = number, os.replace

    def __call__(self, source, target) -> None:
        if ".tmp-report" in str(source):
            self.number -= 1
            if self.number < 0:
                raise KeyboardInterrupt
        self.rename(source, target)


def test_a_report_is_current_by_the_content_of_its_files_and_of_its_cells(bench, widget):
    run = bench.folder / "r"
    command = partial(bench.run, widget, "--out", "r", "--workers", "0")
    assert command() == 0
    table, note = run / "tables" / "summary.md", run / "report.json"
    whole = table.read_bytes()
    cell = next((bench.folder / ".cells").glob("pixel_stats-*/cell.json"))
    for path, old, new in ((table, whole[-5:], b"12345"), (cell, b'"seed": 0', b'"seed":\t0')):
        state, first = path.stat(), note.stat().st_mtime_ns
        path.write_bytes(path.read_bytes().replace(old, new))
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        assert path.stat().st_size == state.st_size
        assert command() == 0 and note.stat().st_mtime_ns > first
        assert table.read_bytes() == whole
    first = note.stat().st_mtime_ns
    assert command() == 0 and note.stat().st_mtime_ns == first


def test_files_are_put_in_place_together_and_signals_wait(tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "mine.txt").write_text("mine")
    (tmp_path / ".tmp-x-killed").mkdir()
    with pytest.raises(KeyboardInterrupt), staged(tmp_path, "x") as aside:
        files.write_file(aside / "t" / "a", "new")
        files.write_file(aside / "page", "new")
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            assert put_in_place(aside, tmp_path, [tmp_path / "old"]) == [tmp_path / "t" / "a", tmp_path / "page"]
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["page", "t", "t/a", "t/mine.txt"]


# two commands at one folder


def test_a_command_at_a_folder_where_another_works_is_refused_and_told_who_it_is(bench, widget, tmp_path):
    assert bench.run(widget, "--out", "r", "--workers", "0", "--save-maps") == 0
    maps = next((bench.folder / ".cells").glob("pixel_stats-*/maps"))
    before = (bench.folder / "r" / "run.json").read_bytes()
    data = ("--dataset", "mvtec_layout", "--data-root", widget)
    with working_at(bench.folder / "r", "python run_bench.py --methods anoseg"):
        for command in (
            (*data, "--methods", "random", "--out", "r"),
            (*data, "--methods", "random", "--out", "r", "--shard", "1/2"),
            ("report", "r"),
            ("score", *data, "--maps", maps, "--add-to", "r"),
        ):
            assert bench(*command) == 2, command
            assert bench.err.count("\n") == 1 and "Another command works at 'r'" in bench.err
            for part in (f"process {os.getpid()} on {this_host().split()[0]}", "--methods anoseg"):
                assert part in bench.err
        for command in (("status", "r"), ("list", *data), (*data, "--methods", "random", "--out", "r", "--dry-run")):
            assert bench(*command) == 0, command
    assert (bench.folder / "r" / "run.json").read_bytes() == before and len([*(bench.folder / ".cells").glob("*-*/cell.json")]) == 1
    assert not left_over(bench.folder / "r") and bench("report", "r") == 0


def test_of_commands_that_start_together_one_gets_the_folder(tmp_path):
    came, over, inside = threading.Barrier(5), threading.Event(), []

    def work(name: str) -> None:
        came.wait()
        try:
            with working_at(tmp_path, name):
                inside.append(name)
                over.wait(20)
        except UsageError:
            refused.append(name)

    refused: list[str] = []
    threads = [threading.Thread(target=work, args=(f"command {n}",)) for n in range(5)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 20
    while len(refused) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    over.set()
    for thread in threads:
        thread.join()
    assert len(inside) == 1 and len(refused) == 4 and not (tmp_path / CLAIMS).exists()


def test_a_killed_command_gives_its_folder_free(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from anoseg_bench.store.folders import working_at\n"
        "with working_at(Path(sys.argv[1]), 'killed'): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert checkout_python(code, tmp_path).returncode == -signal.SIGKILL
    assert (tmp_path / CLAIMS).exists()
    with working_at(tmp_path, "next"):
        pass
    assert not (tmp_path / CLAIMS).exists()


@pytest.mark.parametrize("beats", [True, False])
def test_a_command_of_another_machine_is_told_by_its_beats(tmp_path, monkeypatch, beats):
    monkeypatch.setattr(folders, "Watch", lambda path: Watch(path, 0.3))
    monkeypatch.setattr(folders, "_LOOK", 0.02)
    claim = Claim.take(Watch(tmp_path / CLAIMS), "command-x", interval=0.005, command="theirs")
    claim.holder = replace(claim.holder, host="elsewhere")
    claim._write()
    notes: list[str] = []

    def look(note: str) -> None:
        notes.append(note)
        if beats:
            claim.beat()

    if beats:
        with pytest.raises(UsageError, match=r"on elsewhere \(theirs\)"), working_at(tmp_path, "ours", tell=look):
            pass
    else:
        with working_at(tmp_path, "ours", tell=look):
            assert not claim.held()
    assert len(notes) == 1


def test_shards_of_one_plan_work_side_by_side(tmp_path):
    with working_at(tmp_path, "1/2", "plan a"), working_at(tmp_path, "2/2", "plan a"):
        for plan in ("plan b", ""):
            with pytest.raises(UsageError, match="Another command"), working_at(tmp_path, "other", plan):
                pass
    with working_at(tmp_path, "other", "plan b"):
        pass


def test_what_a_folder_showed_is_said_where_another_plan_takes_its_place(bench, widget):
    command = partial(bench.run, widget, "--out", "r", "--workers", "0")
    assert command(methods="pixel_stats") == 0 and "showed" not in bench.err
    assert command(methods="pixel_stats,random[label=b c]") == 0 and "showed" not in bench.err  # nothing goes
    assert command("--seeds", "1", methods="pixel_stats") == 0
    note = next(line for line in bench.err.splitlines() if "showed" in line)
    assert note.startswith("note: 'r' showed 2 methods (pixel_stats, b c) on ")
    assert "category widget, seed 0, by the command: " in note and "'pixel_stats,random[label=b c]'" in note
    assert "the cells stay in the store" in note


# predictions


@pytest.fixture
def model(bench, widget):
    assert bench.run(widget, "--out", "r", "--workers", "0", "--keep-models", methods="pixel_stats,random") == 0
    bench.images = [*sorted((widget / "widget" / "test").glob("*/*.png"))]
    return lambda method, images: bench("predict", "--run", "r", "--method", method, "--category", "widget", *images, "--out", "p")


def predicted(folder: Path) -> dict[str, str]:
    with (folder / "predictions.csv").open(newline="") as file:
        return {row["map"]: row["model"] for row in csv.DictReader(file)}


def test_predictions_take_the_place_of_earlier_ones_and_of_nothing_else(bench, model, monkeypatch):
    out = bench.folder / "p"
    assert model("pixel_stats", bench.images) == 0 and "note: 'p'" not in bench.err
    assert len(predicted(out)) == 4
    (out / "maps" / "sub").mkdir()
    for name in ("maps/mine.tiff", "notes.md", "overlays/000-3.png"):
        (out / name).write_text("mine")
    with monkeypatch.context() as patch:
        Filling(patch, 1)
        assert model("random", bench.images[:1]) == 1 and "the disk is full" in bench.err
    assert len(predicted(out)) == 4 and not left_over(out)
    assert model("random", bench.images[:1]) == 0
    assert "note: 'p' held the predictions of 4 images by widget pixel_stats seed 0; that gave way to these" in bench.err
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    mine = {"maps/mine.tiff", "notes.md", "overlays/000-3.png"}
    assert there == mine | {"predictions.csv", "maps/000.tiff", "overlays/000.png"}
    assert predicted(out) == {"maps/000.tiff": "widget random seed 0"}
    (out / "maps" / "001.tiff").write_text("mine")
    assert model("random", bench.images[-1:]) == 0  # 001: its name is taken
    assert (out / "maps" / "001.tiff").read_text() == "mine" and list(predicted(out)) == ["maps/001-2.tiff"]


def test_predictions_of_a_killed_command_go(bench, model):
    out = bench.folder / "p"
    assert model("random", bench.images) == 0
    aside = out / ".tmp-predict-x"
    aside.mkdir()
    (out / "predictions.csv").rename(aside / "predictions.csv")
    assert model("random", bench.images[:1]) == 0 and "what a command that was stopped had written" in bench.err
    assert {path.name for path in (out / "maps").iterdir()} == {"000.tiff"} and not left_over(out)


def test_a_table_of_somebody_else_is_not_written_over(tmp_path):
    table = tmp_path / "predictions.csv"
    for content in (b"mine,yours\n1,2\n", b"\xff\xfe\0"):
        table.write_bytes(content)
        with pytest.raises(UsageError, match="no table that this program wrote"):
            earlier_predictions(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        earlier_predictions(table)


# names


def test_names_as_long_as_files_may_have_them(bench, widget):
    good = widget / "widget" / "test" / "good"
    for i, path in enumerate(sorted(good.iterdir())):
        path.rename(good / f"{'n' * 250}{i}.png")
    options = ("--workers", "0", "--save-maps", "--keep-models", "--category", "widget")
    assert bench.run(widget, "--out", "o" * 255, *options) == 0, bench.err
    maps = next((bench.folder / ".cells").glob("pixel_stats-*/maps"))
    assert len({path.name for path in (maps / "test" / "good").iterdir()}) == 2
    data = ("--dataset", "mvtec_layout", "--data-root", widget)
    assert bench("score", *data, "--maps", maps, "--name", "again", "--add-to", "o" * 255) == 0, bench.err
    values: dict[str, set[str]] = {}
    for row in rows(bench.folder / ("o" * 255)):
        if row["metric"] in ("pixel_auroc", "image_auroc", "iou_deployable"):
            values.setdefault(row["metric"], set()).add(row["value"])
    assert values and all(len(of) == 1 for of in values.values())
    with pytest.MonkeyPatch.context() as patch:
        for module in ("anoseg_bench.plan", "anoseg_bench.store.records"):
            patch.setattr(f"{module}.METRICS_VERSION", 1000)
        assert bench.run(widget, "--out", "o" * 255, *options) == 0, bench.err
    arguments = ("--run", "o" * 255, "--method", "pixel_stats", "--category", "widget", "--out", "p", good)
    assert bench("predict", *arguments) == 0, bench.err
    assert len(predicted(bench.folder / "p")) == 2


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=300))
def test_the_name_of_a_map_fits_and_stays_apart_from_others(name):
    short = map_name(f"test/{name}").removeprefix("test/")
    assert len(f"{short}.tiff".encode()) <= 255
    assert short == name if len(name.encode()) <= 250 else short != map_name(f"test/{name}x").removeprefix("test/")


def test_file_names_of_long_categories_carry_a_hash():
    names = FileNames()
    first, second = names(f"gallery_{'c' * 200}a"), names(f"gallery_{'c' * 200}b")
    assert first != second and not second.endswith("_2") and len(first) <= 80


@pytest.mark.parametrize("name", ["a[1]", "[x] *?", "it's", "cafe\u0301"])
def test_what_messages_print_can_be_left_out(widget, name):
    good = widget / "widget" / "test" / "good"
    (good / "000.png").rename(good / f"{name}.png")
    printed = f"widget/test/good/{name}"
    for pattern in (printed, str(good / f"{name}.png"), unicodedata.normalize("NFC", printed)):
        category, excluded = leave_out(MVTecLayout(widget).load("widget"), [pattern])
        assert excluded == {unicodedata.normalize("NFC", printed): pattern} and len(category.test) == 3
    assert not leave_out(category, ["widget/test/good/a[2]"])[1]
    assert len(leave_out(category, ["widget/test/s*/00[01]"])[1]) == 2


def test_exclude_with_a_name_that_holds_brackets(bench, widget):
    good = widget / "widget" / "test" / "good"
    (good / "000.png").rename(good / "a[1].png")
    assert bench.run(widget, "--out", "r", "--workers", "0", "--exclude", "widget/test/good/a[1]") == 0
    assert json.loads((bench.folder / "r" / "run.json").read_text())["info"]["excluded"] == ["widget/test/good/a[1]"]
    assert "a file's path" in usage_error_of(bench, widget, "--dry-run", "--exclude", "widget/test/good/a[2]")


def usage_error_of(bench, widget, *more) -> str:
    assert bench.run(widget, *more) == 2 and bench.err.count("\n") == 1
    return bench.err


def test_preview_leaves_images_out_and_keeps_galleries_apart(bench, tmp_path):
    for name in ("a b", "a-b"):
        make_category(tmp_path / "data", name, train=4, size=(64, 64))
    command = (
        "preview",
        "anoseg",
        "--dataset",
        "mvtec_layout",
        "--data-root",
        tmp_path / "data",
        "--profile",
        "demo",
        "--number",
        "1",
    )
    assert bench(*command, "--out", "p", "--exclude", "a b/train/good/003") == 0, bench.err
    assert {"a-b.png", "a-b_2.png"} <= {path.name for path in (bench.folder / "p").iterdir()}
    assert bench(*command, "--exclude", "nothing") == 2


def test_a_category_whose_name_holds_a_comma(bench, tmp_path):
    make_category(tmp_path / "data", "a,b")
    assert bench.run(tmp_path / "data", "--category", "a,b", "--dry-run") == 0


# somebody else's code that exits


def test_an_exit_within_a_command_is_an_error(bench, widget, tmp_path, monkeypatch):
    monkeypatch.setattr("anoseg_bench.commands.status.main", lambda arguments: sys.exit(0))
    assert bench("status", "r") == 1 and "sys.exit(0)" in bench.err and bench.err.count("\n") == 1
    (tmp_path / "theirs.py").write_text(
        "import sys\nfrom pydantic import model_validator\nfrom anoseg_bench.methods.base import Method, MethodConfig\n"
        "class Config(MethodConfig):\n    @model_validator(mode='after')\n    def check(self):\n        sys.exit(0)\n"
        "class Theirs(Method):\n    Config = Config\n"
        + "".join(f"    def {name}(self, *given): ...\n" for name in ("_fit", "_predict", "state", "load_state"))
    )
    line = usage_error(bench, widget, methods=f"{tmp_path / 'theirs.py'}:Theirs")
    assert "it called sys.exit(0)" in line and "theirs.py, line 7" in line
