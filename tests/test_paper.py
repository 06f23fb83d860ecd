"""The compact table of a paper, the document of all tables, and how numbers stand in LaTeX."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from anoseg_bench.errors import UsageError
from anoseg_bench.report import paper
from anoseg_bench.report.compose import table_sections, write_tables
from anoseg_bench.report.paper import PUBLISHED, paper_table
from anoseg_bench.report.paper_choice import PaperChoice, choose_paper
from anoseg_bench.report.published_values import USUAL
from anoseg_bench.report.render import Line, Table, TableCell, comma_separated, latex, markdown, typeset
from anoseg_bench.report.results import Results
from anoseg_bench.store.cells import Run
from anoseg_bench.store.records import RunRecord
from tests.helpers import LATEX, compiled, store

pytestmark = pytest.mark.intervals

SKILLS = {"good": 2.0, "like good": 1.95, "bad_one": 0.3}
ONE = PaperChoice(("pixel_auroc",))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Three methods on two categories of MVTec AD and one that nobody has published."""
    info = RunRecord(profile="full", dataset="mvtec_ad", holdout=0.1, seeds=[0], command="run_bench.py --methods 'a'")
    run = Run(tmp_path_factory.mktemp("results") / "run", info)
    for category in "bottle", "grid", "plate":
        for variant, skill in SKILLS.items():
            store(run, variant, category, skill)
    return Results(run)


@pytest.fixture(scope="module")
def tables(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its tables."""
    folder = tmp_path_factory.mktemp("tables")
    write_tables(results, table_sections(results, USUAL, None, PaperChoice()), ["A sentence, -3.1 points."], folder)
    return folder


def rows(table: Table) -> dict[str, list[TableCell]]:
    return {line.cells[0].text: line.cells[1:] for line in table.lines}


def test_metrics_are_chosen_by_name():
    assert choose_paper(None) == choose_paper("paper") == PaperChoice()
    assert choose_paper("paper: iou_max,intervals,iou_max") == PaperChoice(("iou_max",), intervals=True)
    assert choose_paper("paper:intervals") == PaperChoice(intervals=True)
    with pytest.raises(UsageError, match=r"no metric is called 'pixel_aurox'. Did you mean: pixel_auroc"):
        choose_paper("paper:pixel_aurox")
    with pytest.raises(UsageError, match=r"Expected --tables paper or paper:METRICS, .* but got 'summary'"):
        choose_paper("summary")


def test_what_is_wrong_is_told_before_anything_runs(bench):
    assert bench("--methods", "random", "--category", "gasket", "--profile", "demo", "--tables", "paper:iou") == 2
    assert bench.err.startswith("error: --tables paper: no metric is called 'iou'.") and not list(bench.folder.iterdir())


def test_methods_are_rows_and_metrics_stand_side_by_side(results):
    table = paper_table(results, [], PaperChoice(("pixel_auroc", "image_auroc")))
    assert table.header == ["method", *["bottle", "grid", "plate", "mean"] * 2]
    assert table.spans == [("Pixel AUROC", 4), ("Image AUROC", 4)]
    means = [f"{100 * n.mean:.1f}" for n in results.numbers("pixel_auroc", [0, 1, 2])]
    assert [cells[3].text.split()[0] for cells in rows(table).values()] == means
    assert rows(table)["good"][3].bold and not rows(table)["bad_one"][3].bold
    first, second, third = latex(table).splitlines()[6:9]
    assert first == r" & \multicolumn{4}{c}{Pixel AUROC} & \multicolumn{4}{c}{Image AUROC} \\"
    assert second == r"\cmidrule(lr){2-5}\cmidrule(lr){6-9}" and third.startswith("method & {bottle} & {grid}")
    assert comma_separated(table).startswith('method,"Pixel AUROC, bottle"')


def test_best_and_ties_are_marked_in_columns_of_decimals(results):
    text = latex(paper_table(results, [], ONE))
    assert r"\begin{tabular}{l" + "S[table-format=2.1]" * 4 + "}" in text
    good, like, bad = (line for line in text.splitlines() if line.startswith(("good", "like", r"bad\_one")))
    assert re.fullmatch(r"good( & (\\best )?\d\d\.\d(\{\\rlap\{\\textsuperscript\{\$\\approx\$\}\}\})?){4} \\\\", good)
    assert r"\best " in good and r"\textsuperscript{$\approx$}" in good + like and r"\best" not in bad
    assert r"\protected\def\best{\bfseries}" in text  # which siunitx 2 and 3 read


def test_published_numbers_stand_apart_and_are_never_ranked(results):
    table = paper_table(results, ["NSA logistic", "DRAEM"], ONE)
    assert [line.group for line in table.lines] == [""] * 3 + [PUBLISHED.capitalize()] * 2
    theirs = rows(table)["DRAEM"]
    assert [cell.text for cell in theirs] == ["99.1", "99.7", "–", "– (2/3)"] and not any(cell.bold for cell in theirs)
    assert rows(table)["good"][0].bold  # though it is below what is published
    assert sum("not ranked" in note for note in table.notes) == 1
    several = paper_table(
        results, ["DRAEM"], replace(ONE, metrics=("pixel_auroc", "aupro_0.3", "image_auroc", "pixel_ap", "f1_max"))
    )
    assert [*dict.fromkeys(line.group for line in several.lines)][:2] == ["Pixel AUROC", f"Pixel AUROC, {PUBLISHED}"]
    assert not any(line.group.startswith("AUPRO@0.3, pub") for line in several.lines)  # of which DRAEM has published nothing


def test_many_categories_are_rows(results, monkeypatch):
    monkeypatch.setattr(paper, "ROOM", 3)
    table = paper_table(results, ["DRAEM"], PaperChoice(("pixel_auroc", "iou_max")))
    assert table.header == ["category", *SKILLS, "DRAEM"] and table.spans == [("this run", 3), (PUBLISHED, 1)]
    assert [(line.group, line.cells[0].text, line.rule) for line in table.lines[:5]] == [
        *(("Pixel AUROC", category, False) for category in ("bottle", "grid", "plate")),
        ("Pixel AUROC", "mean", True),
        ("IoU-max", "bottle", False),
    ]


def test_one_category_has_a_column_for_each_metric(results):
    one = Results(replace(results.run, rows=[row for row in results.run.rows if row.category == "bottle"]))
    assert paper_table(one, [], PaperChoice()).header == ["method", "Pixel AUROC", "AUPRO@0.3", "IoU (deployable)", "Image AUROC"]


def test_intervals_stand_beneath_on_request(results):
    table = paper_table(results, ["DRAEM"], replace(ONE, intervals=True))
    number = results.numbers("pixel_auroc", [0])[0]
    interval = f"{100 * number.low:.1f}–{100 * number.high:.1f}"
    assert rows(table)["good"][0].beneath == interval and rows(table)["DRAEM"][0].beneath == ""
    assert rf"{{\scriptsize {interval.replace('–', chr(92) + 'textendash{}')}}}" in latex(table)
    assert f"({interval})" in markdown(table) and "95 % confidence interval" in " ".join(table.notes)
    assert "confidence interval" not in " ".join(paper_table(results, [], ONE).notes)


def test_negative_numbers_have_minus_signs_and_names_have_not():
    table = Table(
        "t",
        "Gain",
        ["a-1", "x"],
        [Line([TableCell("m -2"), TableCell(text)]) for text in ("-3.1", "+10.0", "-1.5 .. -0.2", "2e-05")],
    )
    text = latex(table)
    assert "a-1 & x" in text and r"m -2 & $-$3.1 \\" in text and r"$-$1.5 .. $-$0.2" in text and r"$2\cdot 10^{-5}$" in text
    assert typeset("1e-5..1e-1, a[lr=1e-3], --x, 2019-07-01") == r"$10^{-5}$..$10^{-1}$, a{[}lr=1e-3], -{}-x, 2019-07-01"
    aligned = latex(replace(table, decimals=True, lines=table.lines[:2]))
    assert "S[table-format=+2.1]" in aligned and r"m -2 & -3.1 \\" in aligned  # which siunitx sets with a minus sign


def test_tables_that_fit_no_page_are_several():
    line = Line([TableCell("a name"), *[TableCell("50.0 (48.1 to 52.7)")] * 12])
    table = Table("t", "Large", ["name", *map(str, range(12))], [line] * 130, ["How so."])
    parts = latex(table).split(r"\end{table}")[:-1]
    assert [part.count("a name") for part in parts] == [60, 60, 10] * 3 and "(9 of 9)" in parts[-1]
    assert latex(table).count(r"\label") == 1 and latex(table).count("How so.") == 1


def test_the_document_has_sections_in_order_and_says_what_tables_share_once(tables):
    files = {path.name: path.read_text(encoding="utf-8") for path in tables.glob("*.tex")}
    whole = files["all.tex"]
    assert (
        "$-$3.1 points" in whole
        and r"\title{Anomaly segmentation on mvtec\_ad}" in whole
        and "profile full" in whole
        and r"\tableofcontents" in whole
    )
    sections = re.findall(r"\\section\{(.*)\}", whole)
    assert sections[:4] == ["Findings", "How to read the tables", "Protocol", "What to deploy"]
    assert sections[4:7] == ["Summary and comparison", "For a paper", "Metric by metric"]
    assert sections[7:] == ["At both thresholds", "By defect type", "Threshold robustness", "Cost", "Beside published numbers"]
    assert set(re.findall(r"\\input\{(.*)\}", whole)) | {"all.tex"} == set(files)
    for once in ("pixels are pooled within a category", "dataset ", "Values in percent", "Published numbers are as printed"):
        assert whole.count(once) == 1, once
    own, _, apart = files["pixel_auroc.tex"].partition(r"\ifdefined\notesapart\else")
    assert "Pixel AUROC: area under" in own and "Protocol: " in apart and "Protocol: " not in own and "Values in percent" in apart


@LATEX
@pytest.mark.parametrize("version", ["", "[=v2]"])
def test_a_paper_takes_the_table_with_few_packages(results, tmp_path, version):
    for name, choice in {"paper": PaperChoice(), "beneath": PaperChoice(("pixel_auroc", "image_auroc"), intervals=True)}.items():
        (tmp_path / f"{name}.tex").write_text(latex(paper_table(results, ["DRAEM"], choice)), encoding="utf-8")
    (tmp_path / "main.tex").write_text(
        rf"\documentclass[twocolumn]{{article}}\usepackage{{booktabs,graphicx}}\usepackage{{siunitx}}{version}"
        r"\begin{document}\input{paper}\input{beneath}\end{document}"
    )
    log = compiled(tmp_path / "main.tex")
    assert "Overfull" not in log and "too large" not in log


@LATEX
def test_the_document_compiles(tables):
    overfull = re.findall(r"Overfull \\[hv]box \(([0-9.]+)pt", compiled(tables / "all.tex"))
    assert max(map(float, overfull), default=0) < 5
