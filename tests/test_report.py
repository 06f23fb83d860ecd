"""Reports from fabricated cells: what tables say, that any name survives any format, what is drawn and what is deleted."""

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import BarContainer
from PIL import Image

from anoseg_bench.metrics import VERSION as METRICS_VERSION
from anoseg_bench.metrics import tabled
from anoseg_bench.report.cache import report_cache
from anoseg_bench.report.compose import console_table, write_report
from anoseg_bench.report.frame import FileNames
from anoseg_bench.report.gallery import Column, choose
from anoseg_bench.report.plots import ONE_COLUMN, TWO_COLUMNS, bar_figure, iou_figure, rate_figure
from anoseg_bench.report.render import Line, Table, TableCell, comma_separated, escape_latex, latex, markdown
from anoseg_bench.report.results import Number, Results, summarise
from anoseg_bench.report.tables import (
    cells,
    cost_table,
    defect_table,
    metric_table,
    robustness_table,
    summary_table,
    threshold_table,
)
from anoseg_bench.store.cells import Run
from anoseg_bench.store.latency import latencies_of, why_unread
from anoseg_bench.store.records import RunRecord
from tests.helpers import AT_BOTH, ITEMS, LATEX, add, compiled, store_latencies

NASTY = r"a_b & <c> $\q$ 50% #{~^}|`*"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    info = RunRecord(profile="quick", dataset="synthetic", holdout=0.1, seeds=[0], commit="abc", synthetic=True)
    return Run(tmp_path / "results" / "run", info)


def add_previews(run: Run) -> None:
    path = run.store.previews("same")
    path.parent.mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = {f"image/{i}": rng.integers(0, 255, (20, 24, 3), np.uint8) for i in range(len(ITEMS))}
    np.savez_compressed(path, **images, **{f"mask/{i}": np.zeros((20, 24), np.uint8) for i in range(len(ITEMS))})


def shown(table: Table) -> dict[str, list[str]]:
    return {line.cells[0].text: [f"*{c.text}*" if c.bold else c.text for c in line.cells[1:]] for line in table.lines}


def pixel_auroc(run: Run, allow_partial: bool = False) -> Table:
    return metric_table(Results(run, allow_partial), "pixel_auroc", "pixel_auroc")


def test_a_mean_is_over_categories_and_seeds() -> None:
    number = summarise(np.array([[0.5, 0.7], [0.7, 0.9]]))
    assert number.mean == pytest.approx(0.7) and (number.n, number.total) == (4, 4)
    assert summarise(np.array([[0.5, math.nan]])) == Number(0.5, 1, 2, pytest.approx(math.nan, nan_ok=True))


def test_metric_table_has_groups_means_and_bold_with_ties(run: Run) -> None:
    for category, group, values in [
        ("wood", "textures", (0.8, 0.9)),
        ("pill", "objects", (0.70004, 0.7)),
        ("nut", "objects", (1, 0)),
    ]:
        for variant, value in zip("ab", values, strict=True):
            add(run, variant, category, value, group=group)
    table = pixel_auroc(run)
    assert table.header == ["category", "a", "b"]
    assert shown(table) == {
        "wood": ["80.0", "*90.0*"],
        "mean of textures": ["80.0", "*90.0*"],
        "pill": ["*70.0*", "*70.0*"],
        "nut": ["*100.0*", "0.0"],
        "mean of objects": ["*85.0*", "35.0"],
        "mean": ["*83.3*", "53.3"],
    }
    assert [line.group for line in table.lines] == ["textures"] * 2 + ["objects"] * 3 + [""]


def test_an_incomplete_mean_is_a_dash_and_never_the_best(run: Run) -> None:
    for category, value in {"wood": 0.8, "pill": None, "nut": 0.9}.items():
        add(run, "a", category, value)
        add(run, "b", category, 0.5)
    table = pixel_auroc(run)
    assert shown(table)["pill"] == ["–", "50.0"]
    assert shown(table)["mean"] == ["– (2/3)", "50.0"]
    assert shown(pixel_auroc(run, allow_partial=True))["mean"] == ["85.0 (2/3)", "50.0"]
    assert any(note == "Failed: a on pill: out of memory in /some_path." for note in table.notes)


def test_the_terminal_rather_leaves_out_weights_than_a_number(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    add(run, "a", "wood", 0.5, pretrained="weights of others")
    shown = {}
    for room in ("300", "110", "70"):
        monkeypatch.setenv("COLUMNS", room)
        shown[room] = console_table(Results(run))
        assert "a†" in shown[room] and "† rests on weights trained on other images." in shown[room]
    assert "weights" in shown["300"].split("\n---")[0] and "More columns" not in shown["300"]
    assert "(deployable)" in shown["110"] and " weights " not in shown["110"].split("Means over")[1].split("---")[0]
    assert "More columns: tables/summary.md." in shown["70"]


def test_nothing_is_said_of_weights_where_all_cells_failed(run: Run) -> None:
    add(run, "a", "wood", 0.5)
    add(run, "b", "wood", None)
    column = {line.cells[0].text: line.cells[1].text for line in cost_table(Results(run)).lines}
    assert column == {"a": "from scratch", "b": "–"}


def test_an_undefined_value_is_a_dash_with_its_reason(run: Run) -> None:
    add(run, "a", "wood", 0.5)
    add(run, "b", "wood", 0.5, values={"iou_0.5": None}, reasons={"iou_0.5": "the map is no probability"}, scaled=True)
    table = metric_table(Results(run), "iou_0.5", "iou_0.5")
    assert shown(table)["wood"] == ["50.0", "–"]
    assert "Undefined (–): b: the map is no probability." in table.notes
    assert any("scaled on the test set" in note and note.endswith(": b.") for note in table.notes)
    assert "–" in console_table(Results(run))


@pytest.mark.figures
def test_a_metric_without_any_value_is_dashes_with_the_reason(run: Run) -> None:
    add(run, "a", "wood", 0.5, values={"iou_0.5": None})
    names = {path.name for path in write_report(Results(run))}
    assert "bars_pixel_auroc.png" in names and "bars_iou_0.5.png" not in names
    table = (run.path / "tables" / "iou_0.5.md").read_text()
    assert "| wood" in table and "–" in table and "Undefined" in table
    assert "IoU@0.5" in (run.path / "tables" / "summary.csv").read_text()


def test_summary_and_footnotes_say_how_the_numbers_came_about(run: Run) -> None:
    add(run, "a", "wood", 0.5, deviations="3 of 200 epochs")
    table = summary_table(Results(run))
    row = dict(zip(table.header[1:], shown(table)["a"], strict=True))
    assert row["Pixel AUROC"] == "50.0" and row["training (s)"] == "12" and row["images/s, 16 at once"] == "50"
    notes = " ".join(table.notes)
    for part in ["only full is meant", "embedded synthetic", "image size 64", "seed 0", "abc with uncommitted changes", "10 %"]:
        assert part in notes
    assert "a: 3 of 200 epochs" in notes


def test_both_thresholds_are_told_apart(run: Run) -> None:
    few = {name: None for name in AT_BOTH if name.startswith("image_") and name.endswith("deployable")}
    reasons = {"image_threshold_deployable": "needs 19 held-out normal images, but there are 6"}
    add(run, "a", "wood", 0.5, values={"iou_deployable": 0.25, "fpr_deployable": 0.00123, "image_threshold_deployable": 12.5})
    add(run, "b", "wood", 0.4, values={"precision_deployable": None, **few}, reasons=reasons)
    table = threshold_table(Results(run), [0], "wood", "thresholds_wood")
    assert table.header == ["method", "threshold", "IoU", "F1", "precision", "recall", "of all normal ones"]
    rows = {(line.group.split(" (")[0], line.cells[0].text): [c.text for c in line.cells[1:]] for line in table.lines}
    assert rows["Pixels, oracle threshold", "a"] == ["0.5", *["50.0"] * 4, "50.00"]
    assert rows["Pixels, deployable threshold", "a"] == ["0.7", "25.0", "50.0", "50.0", "50.0", "0.12"]
    assert rows["Pixels, deployable threshold", "b"][3] == "–"
    assert rows["Images, deployable threshold", "a"] == ["12.5", "", "50.0", "50.0", "50.0", "50.00"]
    assert rows["Images, deployable threshold", "b"] == ["–", "", "–", "–", "–", "–"]
    assert any("needs 19 held-out normal images" in note for note in table.notes)
    bold = {line.cells[0].text for line in table.lines for c in line.cells if c.bold and line.group.startswith("Pixels, deploy")}
    assert bold == {"a", "b"}  # a in F1, b in IoU


def test_both_axes_stand_in_one_table(run: Run) -> None:
    add(run, "a", "wood", 0.5, values={"iou_mean": 0.1, "iou_mean_fpr": 0.2, "iou_width": 0.3, "iou_width_fpr": 0.4})
    table = robustness_table(Results(run))
    assert table.header == ["method", "IoU-max", "Mean IoU (value)", "width (value)", "Mean IoU (FPR)", "width (FPR)"]
    assert shown(table)["a"] == ["50.0", "10.0", "30.0", "20.0", "40.0"]


def test_defect_types_have_recall_and_regions_sizes(run: Run) -> None:
    add(run, "a", "wood", 0.5)
    table = defect_table(Results(run), "wood", "d")
    assert table is not None
    rows = {line.group: [c.text for c in line.cells] for line in table.lines}
    assert rows["Recall of pixels, oracle threshold (best on the test set)"] == ["hole", "4", "25.0"]
    assert rows["Recall of images, deployable threshold (from held-out normals)"] == ["hole", "4", "–"]
    assert any("Defective regions: 5, of 3 to 1,234 pixels (median 40)." in note for note in table.notes)


def test_where_numbers_come_from_is_said(run: Run) -> None:
    add(run, "a", "wood", 0.5, identity={"metrics": METRICS_VERSION}, mode="exact")
    add(
        run,
        "tool",
        "wood",
        0.5,
        maps={"normals": 7, "folder": "/maps_of/tool", "image_scores": "its own"},
        mode="bounded",
        identity={"metrics": METRICS_VERSION - 1},
    )
    notes = " ".join(pixel_auroc(run).notes)
    assert "Scored from saved maps" in notes and "tool: maps of '/maps_of/tool', its own, 7 maps of normal images" in notes
    assert "Scores counted in bins (numbers within 1e-4): tool." in notes
    assert f"another version of the metrics than {METRICS_VERSION}: tool: {METRICS_VERSION - 1}." in notes


@pytest.mark.parametrize("allow_partial", [False, True])
def test_partial_numbers_compete_with_nothing(allow_partial: bool) -> None:
    row = cells([Number(0.9, 1, 2), Number(0.5, 2, 2), Number(0.4, 2, 2)], allow_partial)
    assert [cell.bold for cell in row] == [False, True, False]


def test_names_from_outside_break_no_format() -> None:
    table = Table("t", NASTY, ["name", "a|b"], [Line([TableCell(NASTY), TableCell("1", bold=True)])], [NASTY])
    escaped = r"a\_b \& \textless{}c\textgreater{} \$\textbackslash{}q\$ 50\% \#\{\textasciitilde{}\textasciicircum{}\}"
    assert escaped in latex(table)
    header, _, row = markdown(table).splitlines()[2:5]
    assert header.count("|") - header.count(r"\|") == row.count("|") - row.count(r"\|") == 3
    assert "**1**" in row and "&lt;c&gt;" in row
    assert comma_separated(table).splitlines()[1] == f"{NASTY},1"
    assert escape_latex("中") == "U+4E2D" and escape_latex("é") == "é"
    assert escape_latex("*[") == "{*}{[}"  # after the end of a row they would be its options


def test_file_names_are_unique_where_case_does_not_count() -> None:
    names = FileNames()
    assert [names(n) for n in ["A b", "a-b", "A-B", ".."]] == ["A-b", "a-b_2", "A-B_3", "unnamed"]


def test_results_in_long_form(run: Run) -> None:
    add(run, "a", NASTY, 0.123456789012345, values={"iou_0.5": None})
    add(run, "b", NASTY, None)
    write_report(Results(run))
    frame = pd.read_csv(run.path / "results.csv").set_index(["variant", "metric"])["value"]
    assert frame["a", "pixel_auroc"] == 0.123456789012345
    assert math.isnan(frame["a", "iou_0.5"]) and math.isnan(frame["b", "pixel_auroc"])
    assert frame["a", "images_per_s_16"] == 50 and frame["a", "threshold_oracle"] == 0.5
    defects = pd.read_csv(run.path / "defects.csv")
    assert list(defects.columns) == ["method", "variant", "dataset", "category", "seed", "defect", "metric", "value"]
    assert defects.set_index("metric")["value"]["images"] == 4


@LATEX
def test_latex_compiles_with_any_name(run: Run) -> None:
    for category in [NASTY, "[x]", "*", 'größe -- "q"', "中ą\n☃"]:
        for variant in ["a very long name of a variant", NASTY, "b_c"]:
            add(run, variant, category, 0.5)
    add(run, "b_c", "other", None)
    run.rows[-1].error = "no such file: /" + "a_long_folder/" * 12
    tables = next(path for path in write_report(Results(run)) if path.name == "all.tex").parent
    log = compiled(tables / "all.tex")
    assert "Overfull" not in log and (tables / "all.pdf").stat().st_size > 10_000


def colours(path: Path) -> int:
    with Image.open(path) as image:
        return len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0))


@pytest.mark.figures
def test_figures_and_galleries_are_drawn(run: Run) -> None:
    for variant in ["a", "b"]:
        add(run, variant, "wood", 0.5 if variant == "a" else 0.9)
        add(run, variant, NASTY, 0.7)
    add_previews(run)
    files = {str(path.relative_to(run.path)) for path in write_report(Results(run))}
    drawn = {"plots/iou_mean", "plots/iou_wood", "plots/roc", "plots/pro", "plots/precision", "plots/bars_pixel_auroc"}
    assert {f"{name}.{kind}" for name in drawn for kind in ("png", "pdf")} | {"maps/gallery_wood.png"} <= files
    for name in files:
        if name.endswith(".png"):
            assert colours(run.path / name) > 30, name
            assert 5_000 < (run.path / name).stat().st_size < 700_000, name
        if name.endswith(".pdf"):  # at the width of one or of two columns of a paper, in fonts that printers take
            content = (run.path / name).read_bytes()
            box = re.search(rb"/MediaBox \[ *0 0 ([0-9.]+) ([0-9.]+)", content)
            assert box and float(box[1]) == pytest.approx(72 * (6.9 if name.startswith("plots/iou") else 3.3), abs=1), name
            assert b"/Type3" not in content, name
    with Image.open(run.path / "maps/gallery_wood.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    line = (pixels[..., 0] < 60) & (pixels[..., 1] > 180) & (pixels[..., 2] > 200)
    assert line.sum() > 100, "no contour in its colour"


def test_what_figures_compare_is_told_apart_without_colour(run: Run) -> None:
    for i in range(10):
        add(run, f"method {i}", "wood", 0.5)
    results = Results(run)
    bars = bar_figure(results, "pixel_auroc")
    assert len({bar.patches[0].get_hatch() for bar in bars.axes[0].containers if isinstance(bar, BarContainer)}) == 10
    curves = rate_figure(results, "roc")
    assert curves is not None and curves.get_figwidth() == ONE_COLUMN
    lines = [line for line in curves.axes[0].lines if line.get_label().startswith("_") and line.get_marker() != "None"]
    assert len({(line.get_marker(), str(line._unscaled_dash_pattern)) for line in lines}) == 10
    many = bar_figure(results, "iou_max").get_figwidth(), bars.get_figwidth()
    assert many == (TWO_COLUMNS, TWO_COLUMNS)


def test_both_thresholds_are_marked_on_both_axes(run: Run) -> None:
    add(run, "a", "wood", 0.4, values={"threshold_oracle": 0.25, "normal_fpr_oracle": 0.5, "normal_fpr_deployable": 1e-3})
    add(run, "b", "wood", 0.8, values={"threshold_deployable": None})
    figure = iou_figure(Results(run), [0], "wood")
    assert figure is not None
    value, rate = figure.axes
    assert rate.get_xscale() == "log" and "false-positive rate" in rate.get_xlabel() and "map's value" in value.get_xlabel()
    marks = [
        {
            (line.get_marker(), *map(float, (line.get_xdata()[0], line.get_ydata()[0])))
            for line in ax.lines
            if len(line.get_xdata()) == 1
        }
        for ax in figure.axes
    ]
    assert marks[0] == {("*", 0.25, 40.0), ("v", 0.7, 40.0), ("*", 0.5, 80.0)}
    assert marks[1] >= {("*", 0.1, 40.0), ("v", 1e-3, 40.0)}  # what lies beyond the axis stands at its edge
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["a", "b"] and labels[2].startswith("oracle") and labels[3].startswith("deployable")
    assert iou_figure(Results(run), [0, 0], "mean").axes[0].lines[-1].get_marker() not in ("*", "v")


def test_a_gallery_shows_the_same_examples_for_all_and_each_ones_worst() -> None:
    nan = math.nan
    first = Column("a", iou=np.array([nan, nan, 0.5, 0.6, 0.7, 0.1]), score=np.array([0.1, 0.3, 1, 1, 1, 1]))
    second = Column("b", iou=np.array([nan, nan, 0.2, 0.6, 0.7, 0.3]), score=np.array([0.4, 0.3, 1, 1, 1, 1]))
    failed = Column("c")
    assert choose(ITEMS, [first, second, failed]) == {2: ["b"], 3: [], 0: ["b"], 5: ["a"], 1: ["a"]}


def test_files_of_an_earlier_report_go_and_others_stay(run: Run) -> None:
    add(run, "a", "wood", 0.5)
    for name in ["tables/old.tex", "plots/iou_old.png", "maps/gallery_old.png", "tables/all.pdf", "notes.md", "maps/mine.txt"]:
        path = run.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    files = write_report(Results(run))
    left = {str(p.relative_to(run.path)) for p in run.path.rglob("*") if p.is_file()} - {
        str(p.relative_to(run.path)) for p in files
    }
    assert left == {"tables/all.pdf", "notes.md", "maps/mine.txt"}


def test_what_latency_measured_is_shown_as_long_as_it_is_of_the_runs_models(run: Run) -> None:
    for variant in "ab":
        add(run, variant, "wood", 0.5)
        add(run, variant, "steel", 0.6)
    assert latencies_of(run) is None
    store_latencies(run, [run.rows[0], run.rows[2]])
    files = {path.name for path in write_report(Results(run))}
    assert {"latency.csv", "latency.md", "latency.tex", "latency.pdf", "latency.png"} <= files
    table = pd.read_csv(run.path / "tables" / "latency.csv")
    assert list(table["median (ms)"]) == [10, 8, 80, 64, 20, 16, 160, 128] and set(table["method"]) == {"a", "b"}
    assert r"\input{latency.tex}" in (run.path / "tables" / "all.tex").read_text()
    before = report_cache(run, []).made_from
    store_latencies(run, [run.rows[2]])
    assert report_cache(run, []).made_from != before  # a report is written anew
    run.rows[2].variant = "c"  # the same cell under another label
    measured = latencies_of(run)
    assert measured and {latency.variant for latency in measured.latencies} == {"c"}
    assert "latency.csv" in {path.name for path in write_report(Results(run))}
    add(run, "b", "wood", 0.7)
    retrained = Run(run.path, run.info, [run.rows[0], run.rows[4]])
    assert latencies_of(retrained) is None and "latency.csv" not in {path.name for path in write_report(Results(retrained))}
    (run.path / "latency" / "latency.json").write_text("{}")
    assert latencies_of(run) is None and "latency.json' is damaged; measure again" in why_unread(run)
    assert "latency.csv" not in {path.name for path in write_report(Results(run))}  # all else is reported
    (run.path / "latency" / "latency.json").unlink()
    assert why_unread(run) == ""


@pytest.mark.figures
def test_a_run_whose_cells_all_failed_still_has_a_report(run: Run) -> None:
    add(run, "a", "wood", None)
    add(run, "b", "wood", None)
    assert "summary.md" in {path.name for path in write_report(Results(run))}
    assert "Failed: a, b: out of memory" in (run.path / "tables" / "summary.md").read_text(encoding="utf-8").replace("\\", "")
    assert "Failed: a, b" in console_table(Results(run))
    empty = Run(run.path.with_name("empty"))
    assert write_report(Results(empty)) and console_table(Results(empty))


@pytest.mark.figures
def test_degenerate_cells_are_reported_all_the_same(run: Run) -> None:
    constant = {f"map/{i}": np.full((20, 24), 3, np.float16) for i in range(len(ITEMS))}
    endless = {"map/2": np.full((20, 24), np.inf, np.float16)}
    add(run, "constant", "wood", 0.5, arrays=constant, scaled=True)
    add(run, "infinite", "wood", 0.5, arrays=endless, scaled=True, values={"threshold_oracle": None})
    add(run, "bare", "wood", 0.5, without=["iou", "roc", "pro", "fpr", "map/2", "thresholds_value"], values=dict.fromkeys(tabled()))
    add(run, "one defect only", "nut", 0.5, items=ITEMS[:2], defects={}, arrays={"iou_oracle": np.full(2, np.nan)})
    add_previews(run)
    names = {path.name for path in write_report(Results(run))}
    assert {"gallery_wood.png", "iou_wood.png"} <= names
    assert Column.read("constant", run.rows[0].result).high == 3
    assert Column.read("infinite", run.rows[1].result).high == pytest.approx(0.9, abs=1e-3)
    zero = {name: np.zeros_like(array) for name, array in constant.items()}
    add(run, "zero", "wood", 0.5, arrays=zero, scaled=True)
    assert Column.read("zero", run.rows[-1].result).high == 1


def test_a_report_needs_nothing_but_the_folder(run: Run) -> None:
    add(run, "a", "wood", 0.5)
    run.save()
    shutil.rmtree(run.store.previews("same").parent, ignore_errors=True)
    names = {path.name for path in write_report(Results(Run.load(run.path)))}
    assert "summary.csv" in names and not any(name.startswith("gallery") for name in names)
    assert json.loads((run.path / "run.json").read_text(encoding="utf-8"))["cells"][0]["status"] == "done"
