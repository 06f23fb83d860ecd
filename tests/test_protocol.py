"""What a run says of its protocol, and where its images come from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from anoseg_bench.datasets import DATASETS
from anoseg_bench.evaluation.datareport import read_note
from anoseg_bench.formatting import without_folders
from anoseg_bench.report.protocol import protocol_lines
from anoseg_bench.report.render import Line, Table, TableCell
from anoseg_bench.report.results import Results
from anoseg_bench.report.static import _whole
from anoseg_bench.store.cells import Run
from anoseg_bench.store.records import CategoryData, DataReport, RunRecord
from tests.helpers import ROOT, store

PUBLISHED = [name for name in DATASETS.names() if DATASETS[name].load().origin is not None and name != "synthetic"]


def test_the_protocol_tells_all_that_makes_numbers_comparable(tmp_path: Path):
    origin = DATASETS["mvtec_ad"].load().origin
    data = DataReport(
        categories=[CategoryData(name="wood", counts={}, split="the good test images are those of its folder")],
        note=read_note(None, None, origin),
    )
    info = RunRecord(
        command="bench --seeds 0", profile="quick", dataset="mvtec_ad", holdout=0.1, seeds=[0], commit="abc", data=data
    )
    run = Run(tmp_path / "results" / "r", info)
    store(run, "anoseg", "wood", 1.0)
    lines = dict(protocol_lines(Results(run)))
    assert lines["Dataset"] == "mvtec_ad (MVTec AD, Bergmann et al. 2019, 2021)" and lines["Licence"] == "CC BY-NC-SA 4.0"
    assert (
        "but here: profile quick trains for a look only; part of the normal training images is held out"
        in lines["Beside published numbers"]
    )
    assert lines["Split"] == "the good test images are those of its folder"
    assert lines["Images of wood"] == "20 held out for thresholds, 8 good and 8 defective to test"
    assert "profile quick" in lines["How"] and "seed 0" in lines["How"] and lines["Again"] == "bench --seeds 0"
    assert "arXiv 2110.03396" in lines["To cite"] and "Bergmann" in lines["To cite"]
    assert "Pictures" not in lines
    info.data, info.pictures = None, False
    lines = dict(protocol_lines(Results(run)))
    assert lines["Licence"].startswith("not told") and lines["Beside published numbers"].startswith("not known")
    assert lines["Pictures"] == "none: the run was packed without them"


def test_a_note_beside_the_data_says_the_licence_first(tmp_path: Path):
    origin = DATASETS["visa"].load().origin
    (tmp_path / "DATASET.md").write_text("Split: one-class\n", encoding="utf-8")
    note = read_note(None, tmp_path, origin)
    assert note and (note.licence, note.split, note.citation) == ("CC BY 4.0", "one-class", "VisA, Zou et al. 2022")
    (tmp_path / "DATASET.md").write_text("Licence: bought\n", encoding="utf-8")
    note = read_note(None, tmp_path, origin)
    assert note and note.licence == "bought"
    assert read_note(None, None, DATASETS["synthetic"].load().origin).licence == "Apache-2.0"


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_docs_say_of_a_dataset_what_its_adapter_says(name):
    rows = re.findall(rf"^\| `{name}` \|.*$", (ROOT / "docs" / "data.md").read_text(encoding="utf-8"), re.MULTILINE)
    origin = DATASETS[name].load().origin
    assert origin and any(origin.licence in row and origin.citation.split(", ", 1)[1] in row for row in rows)


def test_tables_as_html_are_bold_where_tables_are_and_hold_no_markup_of_others():
    table = Table("t", "T", ["method", "x"], [Line([TableCell("<i>"), TableCell("<1>", True)])], [])
    assert '<th scope="row">&lt;i&gt;</th><td><b>&lt;1&gt;</b></td>' in _whole(table)


def test_what_travels_names_no_folder_of_this_machine():
    given = {"weights": "/models/a.pth", "more": ["C:\\models\\b.pth", "layer4/x", 3], "none": None}
    assert without_folders(given) == {"weights": "a.pth", "more": ["b.pth", "layer4/x", 3], "none": None}
    pages = list((ROOT / "results" / "reference").rglob("report.html"))
    assert pages and not any(re.search(r"/(home|root|work|usr|Users)/|site-packages", page.read_text("utf-8")) for page in pages)
