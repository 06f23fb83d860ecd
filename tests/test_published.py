"""Published numbers beside a run's: with their sources, on the same dataset and metric only, never ranked."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from anoseg_bench.metrics import tabled
from anoseg_bench.report.published import reproduction_table, with_published
from anoseg_bench.report.published_values import FILE, choose_published, published_numbers
from anoseg_bench.report.results import Results
from anoseg_bench.report.tables import metric_table
from anoseg_bench.store.cells import Run
from anoseg_bench.store.records import RunRecord
from tests.helpers import store


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "results" / "run", RunRecord(profile="full", dataset="mvtec_ad", holdout=0.1, seeds=[0]))
    for category in "bottle", "grid", "plate":
        for variant, skill in {"ae_ssim": 0.3, "gradcam": 0.1}.items():
            store(run, variant, category, skill)
    return run


def shown(run: Run, metric: str, methods: list[str]):
    results = Results(run)
    return with_published(results, metric, metric_table(results, metric, metric), methods)


def test_the_file_holds_facts_with_sources():
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and all(row["source"].strip() and 0 <= float(row["percent"]) <= 100 for row in rows)
    assert len({(r["method"], r["metric"], r["category"]) for r in rows}) == len(rows)
    assert {number.metric for number in published_numbers()} <= set(tabled())  # an IoU of an unknown threshold is not ours


def test_methods_are_named_with_wildcards(bench):
    assert choose_published("nsa*,DRAEM") == ["NSA binary", "NSA continuous", "NSA logistic", "DRAEM"]
    assert choose_published(None) == []
    assert bench("--methods", "random", "--published", "DREAM") == 2
    assert bench.err.startswith("error: No published method is called 'DREAM'. Did you mean: DRAEM")


def test_columns_are_as_printed_with_their_source_and_never_bold(run):
    table = shown(run, "pixel_auroc", ["NSA logistic"])
    known = {n.category: n for n in published_numbers() if (n.method, n.metric) == ("NSA logistic", "pixel_auroc")}
    assert table.header[-1] == "NSA logistic (published)"
    last = {line.cells[0].text: line.cells[-1] for line in table.lines}
    assert [last[c].text for c in ("bottle", "grid", "plate", "mean")] == [
        f"{known['bottle'].percent:.1f}",
        f"{known['grid'].percent:.1f}",
        "–",
        "– (2/3)",  # a mean over other categories than ours would compare nothing
    ]
    assert not any(cell.bold for cell in last.values())
    assert any("not ranked, not tested" in note for note in table.notes)
    assert f"NSA logistic: published, {known['bottle'].source}." in table.notes
    own = {line.cells[0].text: [c.bold for c in line.cells[1:3]] for line in table.lines}
    assert sum(own["bottle"]) == 1  # the best of ours stays bold although the published one is higher


def test_only_for_the_same_dataset_and_metric(run):
    assert shown(run, "iou_max", ["NSA logistic"]).header == metric_table(Results(run), "iou_max", "iou_max").header
    run.info.dataset = "other"
    assert len(shown(run, "pixel_auroc", ["NSA logistic"]).header) == 3
    assert reproduction_table(Results(run)) is None


def test_a_reproduction_is_set_against_what_was_published(run):
    results = Results(run)
    table = reproduction_table(results)
    assert table is not None
    groups = {line.group for line in table.lines}
    assert "ae_ssim after AE-SSIM, Pixel AUROC" in groups and all("plate" != line.cells[0].text for line in table.lines)
    line = next(x for x in table.lines if x.group == "ae_ssim after AE-SSIM, Pixel AUROC" and x.cells[0].text == "bottle")
    there = next(n.percent for n in published_numbers() if (n.method, n.metric, n.category) == ("AE-SSIM", "pixel_auroc", "bottle"))
    ours = 100 * results.numbers("pixel_auroc", [0])[0].mean
    assert float(line.cells[1].text) == there
    assert math.isclose(float(line.cells[3].text), ours - there, abs_tol=0.051)
    assert any("Known differences of ae_ssim" in note for note in table.notes)


def test_a_report_shows_them_on_request(bench, widget):
    bottle = widget / "bottle"
    (widget / "widget").rename(bottle)
    assert bench("--dataset", "mvtec_ad", "--data-root", widget, "--methods", "random", "--profile", "demo", "--out", "r") == 0
    assert "published" not in Path("r/tables/pixel_auroc.md").read_text()
    assert bench("report", "r", "--published", "NSA*") == 0
    text = Path("r/tables/pixel_auroc.md").read_text()
    assert "NSA binary (published)" in text and "ECCV" in text
