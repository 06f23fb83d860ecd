"""Published numbers beside a run's: with their sources, on the same dataset and metric only, never ranked."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from anoseg_bench.metrics import tabled
from anoseg_bench.report.published import published_table, reproduction_table
from anoseg_bench.report.published_values import FILE, USUAL, choose_published, published_numbers
from anoseg_bench.report.results import Results
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


def shown(run: Run, methods: list[str]):
    return published_table(Results(run), methods)


def test_the_file_holds_facts_with_sources():
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and all(row["source"].strip() and 0 <= float(row["percent"]) <= 100 for row in rows)
    assert len({(r["method"], r["metric"], r["category"]) for r in rows}) == len(rows)
    assert {number.metric for number in published_numbers()} <= set(tabled())  # an IoU of an unknown threshold is not ours


def test_methods_are_named_with_wildcards(bench):
    assert choose_published("nsa*,DRAEM") == ["NSA binary", "NSA continuous", "NSA logistic", "DRAEM"]
    assert choose_published("none") == [] and choose_published(None) == list(USUAL) == choose_published(",".join(USUAL))
    assert bench("--methods", "random", "--published", "DREAM") == 2
    assert bench.err.startswith("error: No published method is called 'DREAM'. Did you mean: DRAEM")


def test_they_have_a_table_of_their_own_as_printed_with_their_source(run):
    table = shown(run, ["NSA logistic", "DRAEM"])
    known = {(n.method, n.metric, n.category): n.percent for n in published_numbers()}
    assert table.header == ["category", "NSA logistic", "DRAEM"]
    assert {line.group for line in table.lines} >= {"Pixel AUROC", "Image AUROC"} and "IoU-max (oracle)" not in str(table.lines)
    lines = {line.cells[0].text: line.cells for line in table.lines if line.group == "Pixel AUROC"}
    assert [lines[c][1].text for c in ("bottle", "grid", "plate", "mean")] == [
        f"{known['NSA logistic', 'pixel_auroc', 'bottle']:.1f}",
        f"{known['NSA logistic', 'pixel_auroc', 'grid']:.1f}",
        "–",
        "– (2/3)",  # a mean over other categories than ours would compare nothing
    ]
    assert not any(cell.bold for line in table.lines for cell in line.cells)
    assert any("not ranked, not tested" in note for note in table.notes)
    source = next(n.source for n in published_numbers() if n.method == "NSA logistic")
    assert f"NSA logistic: published, {source}." in table.notes


def test_every_source_of_a_method_is_named(run):
    sources = {n.source for n in published_numbers() if n.method == "CutPaste 3-way (paper)" and n.category in ("bottle", "grid")}
    note = next(note for note in shown(run, list(USUAL)).notes if note.startswith("CutPaste 3-way"))
    assert len(sources) > 1 and all(source in note for source in sources)


def test_only_for_the_same_dataset(run):
    run.info.dataset = "other"
    assert shown(run, ["NSA logistic"]) is None
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
    note = next(note for note in table.notes if "Known differences of ae_ssim" in note)
    assert note.endswith(", 10 % of the training images held out.")
    run.info.holdout = 0.25
    changed = reproduction_table(Results(run))
    assert changed is not None and any(note.endswith(", 25 % of the training images held out.") for note in changed.notes)


def test_a_report_on_mvtec_ad_shows_a_few_and_others_on_request(bench, widget):
    bottle = widget / "bottle"
    (widget / "widget").rename(bottle)
    assert bench("--dataset", "mvtec_ad", "--data-root", widget, "--methods", "random", "--profile", "demo", "--out", "r") == 0
    table = Path("r/tables/published.md")
    assert "NSA logistic" in table.read_text() and "DRAEM" not in Path("r/tables/pixel_auroc.md").read_text()
    assert bench("report", "r", "--published", "NSA*") == 0
    assert "NSA binary" in table.read_text() and "ECCV" in table.read_text() and "DRAEM" not in table.read_text()
    assert bench("report", "r", "--published", "none") == 0 and not table.exists()
