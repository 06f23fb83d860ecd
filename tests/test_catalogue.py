"""A metric is declared once: everything that shows it follows."""

from __future__ import annotations

import numpy as np
import pytest

from anoseg_bench.metrics import catalogue, evaluate
from anoseg_bench.metrics.catalogue import CATALOGUE, Metric, as_markdown, names_resampled
from anoseg_bench.report.compose import write_report
from anoseg_bench.report.results import Results
from anoseg_bench.store.cells import Run
from anoseg_bench.store.records import RunRecord
from tests.helpers import ROOT, halves, images, store


def best_informedness(tp, fp, positives, negatives):
    """Return the largest TPR - FPR (Youden 1950)."""
    return (tp / positives[..., None] - fp / negatives[..., None]).max(axis=-1)


@pytest.fixture
def added(monkeypatch) -> str:
    """The name of a metric that is added in one place."""
    new = Metric("youden", "Youden's J", "the largest TPR - FPR", of_counts=best_informedness)
    monkeypatch.setattr(catalogue, "CATALOGUE", [*CATALOGUE, new])
    return "youden"


def test_a_metric_added_in_one_place_is_in_numbers_intervals_tables_and_docs(added, tmp_path):
    run = Run(tmp_path / "results" / "run", RunRecord(profile="full", dataset="d", holdout=0.1, seeds=[0]))
    for variant, skill in {"good": 2.0, "bad": 0.2}.items():
        store(run, variant, "wood", skill)
    write_report(Results(run))
    value = run.rows[0].result.value(added)
    assert 0 < value < 1
    intervals = (run.path / "intervals.csv").read_text().splitlines()
    line = next(line for line in intervals if line.startswith(f"good,wood,,{added},"))
    low, high = map(float, line.split(",")[5:7])
    assert low < value < high and high - low < 0.5
    table = (run.path / "tables" / f"{added}.md").read_text()
    assert "Youden's J (%)" in table and f"{100 * value:.1f}" in table
    assert "| `youden` | Youden's J |" in as_markdown()


def test_it_is_computed_from_all_scores(added):
    maps, masks, _ = images(np.random.default_rng(0))
    value = evaluate(maps, masks, probability=True).values[added]
    scores, labels = (np.concatenate([a.ravel() for a in arrays]) for arrays in (maps, masks))
    thresholds = np.unique(scores)
    brute = max((scores[labels] >= t).mean() - (scores[~labels] >= t).mean() for t in thresholds[::7])
    assert brute <= value <= brute + 0.02


def test_every_value_of_an_evaluation_is_in_the_catalogue_and_the_reverse():
    maps, masks, kinds = images(np.random.default_rng(0))
    evaluation = evaluate(maps, masks, None, maps[:2], probability=True, defects=kinds, regions=halves(masks))
    assert set(evaluation.values) == {m.name for m in CATALOGUE}
    assert set(names_resampled(by_defect=True)) < set(next(iter(evaluation.defects.values())))


def test_the_docs_hold_the_catalogue():
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert as_markdown() in text, f"docs/metrics.md: write this under 'All numbers':\n{as_markdown()}"
