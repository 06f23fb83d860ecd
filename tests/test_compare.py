"""What changed between runs: a planted fall is found, in an equal run none, and what cannot be compared is not passed over."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from anoseg_bench import api, compare_runs, load_run
from anoseg_bench.errors import UsageError
from anoseg_bench.metrics.catalogue import CATALOGUE
from anoseg_bench.report.changes import Change, RunComparison, _scored
from anoseg_bench.store.cells import Run
from anoseg_bench.store.records import RunRecord
from tests.helpers import store

pytestmark = pytest.mark.intervals

CELLS = {("a", "nut"): 2.0, ("a", "bolt"): 2.0, ("b", "nut"): 1.0, ("b", "bolt"): 1.0}


COMPARED: dict[str, RunComparison] = {}


def make(path: Path, cells=CELLS, seeds=(0,)) -> Path:
    """Write a run of cells of some skill."""
    run = Run(path, RunRecord(dataset="d", profile="demo", seeds=list(seeds)))
    for (variant, category), skill in cells.items():
        for seed in seeds:
            store(run, variant, category, skill, seed)
    run.save()
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A tenth of the resamples, and no two runs compared twice."""
    monkeypatch.setattr("anoseg_bench.report.intervals.RESAMPLES", 200)
    compare = api.compare_results

    def once(old, new, metrics):
        key = f"{old.run.path} {new.run.path} {metrics}"
        if key not in COMPARED:
            COMPARED[key] = compare(old, new, metrics)
        return COMPARED[key]

    monkeypatch.setattr(api, "compare_results", once)


def edit(run: Path, variant: str, category: str, change) -> None:
    """Change the record of a cell."""
    cell = next(row.result for row in Run.load(run).rows if (row.variant, row.category) == (variant, category))
    record = json.loads((cell.folder / "cell.json").read_text())
    change(record)
    (cell.folder / "cell.json").write_text(json.dumps(record))


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """A folder with a run, one with the same numbers, and one of which a method has become worse on one category."""
    folder = tmp_path_factory.mktemp("runs")
    make(folder / "old" / "r")
    make(folder / "same" / "r")
    make(folder / "worse" / "r", CELLS | {("a", "bolt"): 0.7})
    return folder


def test_an_equal_run_does_not_fail(bench, kept):
    assert bench("compare", kept / "old" / "r", kept / "same" / "r", "--fail-below", "0") == 0, bench.err
    assert "Different beside the numbers: nothing" in bench.out and "worse or better where" in bench.out and not bench.err
    assert (compare_runs(kept / "old/r", kept / "same/r")[0].frame["difference"] == 0).all()


def test_a_planted_fall_is_found_where_it_is(bench, kept):
    runs = ("compare", kept / "old" / "r", kept / "worse" / "r")
    assert bench(*runs) == 0 and not bench.err
    shown = [line.split() for line in bench.out.splitlines() if line.startswith("Pixel AUROC")]
    assert [(line[2], line[3], "worse" in line) for line in shown] == [
        ("a", "mean", True),
        ("a", "bolt", True),
        ("b", "mean", False),
    ]
    assert "Categories without a measurable change are not shown" in bench.out
    assert bench(*runs, "--fail-below", "1") == 1
    fallen = [line for line in bench.err.splitlines() if "Pixel AUROC" in line]
    assert [line.split(":")[1].strip() for line in fallen] == ["Pixel AUROC of a on all categories", "Pixel AUROC of a on bolt"]
    assert bench(*runs, "--fail-below", "60") == 0  # the whole interval lies above
    assert bench("compare", *reversed(runs[1:]), "--fail-below", "0") == 0 and "better" in bench.out
    assert bench(*runs, "--all") == 0 and "not shown" not in bench.out and " nut " in bench.out


def test_differences_and_intervals_are_those_of_the_paired_bootstrap(kept):
    comparison = compare_runs(kept / "old/r", kept / "worse/r")[0]
    old, new = load_run(kept / "old/r"), load_run(kept / "worse/r")
    frame = comparison.frame.set_index(["metric", "variant", "category"]).sort_index()
    for name in ("pixel_auroc", "iou_max"):
        members = [old.categories.index("bolt")]
        one, other = old.intervals.of(name, members), new.intervals.of(name, members)
        difference = other.values[0] - one.values[0]
        row = frame.loc[(name, "a", "bolt")]
        assert (row["low"] + row["high"]) / 2 == pytest.approx(difference.mean())
        assert stats.norm.ppf(0.975) < (row["high"] - row["low"]) / 2 / difference.std(ddof=1) <= stats.t.ppf(0.975, 2)
        assert row["other"] - row["first"] == pytest.approx(new.values(name)[0, 1, 0] - old.values(name)[0, 1, 0])
        both = frame.loc[name, "a"]
        assert both.loc["", "difference"] == pytest.approx(both.loc[["nut", "bolt"], "difference"].mean())
    assert (comparison.frame["cells"] == [2, 1, 1] * (len(frame) // 3)).all()


def test_numbers_of_which_smaller_is_better(bench, kept):
    rates = {"fpr", "normal_fpr", "image_fpr"}
    assert {m.name for m in CATALOGUE if m.falls} == {f"{name}_{which}" for name in rates for which in ("oracle", "deployable")}
    rises = Change("image_fpr_deployable", "a", "nut", 0.1, 0.3, 0.15, 0.25, 1)
    assert rises.verdict == "worse" and rises.has_fallen(14.9) and not rises.has_fallen(15.1)
    assert Change("image_fpr_deployable", "a", "nut", 0.3, 0.1, -0.25, -0.15, 1).verdict == "better"
    recall = Change("image_recall_deployable", "a", "nut", 0.3, 0.1, -0.25, -0.15, 1)
    assert recall.verdict == "worse" and recall.has_fallen(14.9) and not recall.has_fallen(15.1)
    assert Change("pixel_auroc", "a", "nut", 0.3, 0.3 - 1e-5, -1e-4, -1e-6, 1).verdict == ""  # shows as 0.0
    without = Change("pixel_auroc", "a", "nut", 0.3, 0.1, math.nan, math.nan, 1)
    assert without.verdict == "worse" and without.has_fallen(19) and not without.has_fallen(21)
    only_now = Change("pixel_auroc", "a", "nut", math.nan, 0.1, math.nan, math.nan, 1)
    assert only_now.verdict == "" and not only_now.has_fallen(0)
    lost = Change("pixel_auroc", "a", "nut", 0.3, math.nan, math.nan, math.nan, 1)
    assert lost.verdict == "lost" and lost.has_fallen(50)
    assert bench("compare", kept / "old/r", kept / "worse/r", "--metrics", "image_fpr_deployable,image_ap") == 0
    assert "false alarms" in bench.out and "Image AP" in bench.out and "Pixel AUROC" not in bench.out


def test_other_images_are_not_paired(bench, kept, tmp_path):
    make(tmp_path / "n" / "r")
    edit(tmp_path / "n" / "r", "a", "nut", lambda record: record.update(content="other"))
    runs = ("compare", kept / "old/r", tmp_path / "n/r")
    assert bench(*runs) == 0 and "1 cell of" in bench.out and "not the same in both" in " ".join(bench.out.split())
    assert bench(*runs, "--fail-below", "1") == 1
    assert bench.err.startswith("missing: nut a seed 0: the images, for training or test, are not the same")
    comparison = compare_runs(*runs[1:])[0]
    assert len(comparison.pairs) == 3 and not comparison.extra
    assert set(comparison.frame[comparison.frame.variant == "a"].category) == {"bolt"}
    make(tmp_path / "m" / "r")
    for variant, category in CELLS:
        edit(tmp_path / "m" / "r", variant, category, lambda record: record.update(content=""))
    assert bench("compare", kept / "old/r", tmp_path / "m/r") == 2
    assert "none of" in bench.err and "not the same in both, or not known" in bench.err and bench.err.count("\n") == 1


def test_missing_cells_and_other_seeds(bench, tmp_path):
    make(tmp_path / "old" / "r", seeds=(0, 1))
    new = make(tmp_path / "new" / "r", {**CELLS, ("c", "nut"): 1.0}, seeds=(0, 1))
    run = Run.load(new)
    next(row for row in run.rows if row.title == "nut a seed 1").settle("failed", "out of memory")
    run.rows = [row for row in run.rows if (row.variant, row.category) != ("b", "bolt")]
    for row in run.rows:
        row.key = "" if row.result is None else row.key
    run.save()
    comparison = compare_runs(tmp_path / "old/r", new, metrics=["pixel_auroc"])[0]
    cells = comparison.frame.set_index(["variant", "category"])["cells"].to_dict()
    assert cells == {("a", ""): 2, ("a", "nut"): 1, ("a", "bolt"): 2, ("b", "nut"): 2}  # the mean: on the seed that all have
    assert comparison.frame["low"].notna().all()
    assert {reason.split(":")[-1].strip(): len(rows) for reason, rows in comparison.missing.items()} == {
        "out of memory": 1,
        f"not in '{new}'": 2,
    }
    assert [row.variant for rows in comparison.extra.values() for row in rows] == ["c", "c"]
    assert bench("compare", tmp_path / "old/r", new) == 0
    assert bench("compare", tmp_path / "old/r", new, "--fail-below", "1") == 1 and bench.err.count("missing:") == 2


def test_why_numbers_may_differ_is_told(kept, tmp_path):
    new = make(tmp_path / "r")

    def other(record):
        record["config"]["image_size"] = 64
        record["provenance"] |= {"commit": "0123abc", "versions": {"torch": "9.9"}, "device": "cuda"}

    for category in ("nut", "bolt"):
        edit(new, "a", category, other)
    edit(new, "b", "nut", lambda record: record.update(source="feed"))
    comparison = compare_runs(kept / "old/r", new)[0]
    assert "setting image_size: 40 -> 64 (method a, 2 categories (nut, bolt), seed 0)" in comparison.reasons
    told = {(what, now): len(rows) for (what, _, now), rows in comparison.differences.items()}
    assert told == {
        ("setting image_size", "64"): 2,
        ("commit", "0123abc"): 2,
        ("device", "cuda"): 2,
        ("package torch", "9.9"): 2,
        ("code of the method", "feed"): 1,
    }


def test_files_for_programs_and_several_runs(bench, kept, tmp_path):
    runs = [kept / name / "r" for name in ("old", "same", "worse")]
    written = {kind: tmp_path / f"c.{kind}" for kind in ("json", "csv", "markdown")}
    assert bench("compare", *runs, *(f"--{kind}={path}" for kind, path in written.items())) == 0
    assert " ".join(bench.out.split()).count("(first), in percent") == 2
    frame = pd.read_csv(written["csv"], keep_default_na=False, na_values={"low": [""]})
    assert frame["runs"].nunique() == 2 and set(frame["verdict"]) == {"", "worse"}
    known = json.loads(written["json"].read_text())
    assert [of["other"] for of in known] == [str(runs[1]), str(runs[2])] and len(known[0]["compared"]) == 4
    assert len(known[1]["changes"]) == len(frame) // 2
    assert written["markdown"].read_text().count("### ") == 2
    assert bench("compare", *runs[:2], "--csv", "-") == 0
    assert len(list(csv.DictReader(bench.out.splitlines()))) == len(frame) // 2


def test_packed_runs_compare_and_wrong_input_is_one_line(bench, kept):
    assert bench("pack", kept / "worse/r", "--no-pictures", "--out", "new.zip") == 0
    assert bench("compare", kept / "old/r", "new.zip", "--fail-below", "1") == 1
    fallen = compare_runs(kept / "old/r", "new.zip")[0].fallen()
    assert [c.category for c in fallen if c.metric == "iou_max"] == ["", "bolt"]
    for wrong, said in (
        (("--metrics", "pixel_aurok"), "Did you mean"),
        (("--metrics", "threshold_oracle"), "have intervals"),
        (("--fail-below", "-1"), "0 or more"),
        (("--fail-below", "nan"), "0 or more"),
    ):
        assert bench("compare", kept / "old/r", "new.zip", *wrong) == 2 and said in bench.err and bench.err.count("\n") == 1
    assert bench("compare", kept / "old/r") == 2
    with pytest.raises(UsageError, match="give the folder of a run"):
        compare_runs(kept / "old/r", "nowhere")


def test_scored_maps_are_compared_by_one_line():
    """Not by the hash of each, in which all else would drown."""
    first = {"maps": {f"test/{i}": "a" * 64 for i in range(42)}, "probability": True, "scores": None, "seed": 0}
    other = first | {"maps": first["maps"] | {"test/3": "b" * 64}}
    before, now = _scored(first), _scored(other)
    assert before["scored: maps"].startswith("42 (") and len(before["scored: maps"]) < 20
    assert [name for name in before if before[name] != now[name]] == ["scored: maps"] and "scored: seed" not in before
