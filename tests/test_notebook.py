"""The notebook runs, in a process of its own, and shows a table and a plot."""

from __future__ import annotations

import nbclient
import nbformat

from anoseg_bench import IMPORT_PATH
from tests.helpers import ROOT


def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(IMPORT_PATH))
    notebook = nbformat.read(ROOT / "examples" / "first_run.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": tmp_path}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert any("pixel_stats" in output.get("text", "") for output in shown)
    assert (tmp_path / "results" / "first_run" / "run.json").is_file()
