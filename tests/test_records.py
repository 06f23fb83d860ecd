"""Typed records: what is written is read, older forms are read, too old ones are named and run again."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from anoseg_bench.store.records import OLDEST, SCHEMA, CellRecord
from tests.helpers import cells


def record_file(bench):
    """Return the one stored record."""
    return next((bench.folder / ".cells").glob("pixel_stats-*/cell.json"))


def test_a_number_that_is_undefined_is_null_in_the_file_and_nan_here():
    record = CellRecord(method="m", dataset="d", category="c", seed=0, values={"iou_0.5": None, "iou_max": 0.5})
    assert math.isnan(record.values["iou_0.5"]) and record.values["iou_max"] == 0.5
    with pytest.raises(ValidationError):
        record.seed = 3  # type: ignore[misc]


def test_a_record_of_the_first_schema_is_read(bench, widget):
    assert bench.run(widget, "--out", "r") == 0
    record = json.loads(record_file(bench).read_text())
    assert record.pop("schema_version") == SCHEMA
    record["images"]["more"] = 7  # of another version
    record_file(bench).write_text(json.dumps(record))
    assert bench.run(widget, "--out", "r") == 0 and cells(bench.folder / "r")[0]["status"] == "cached"


@pytest.mark.parametrize("schema", [OLDEST - 1, SCHEMA + 1])
def test_a_record_of_an_unknown_schema_is_named_and_runs_again(bench, widget, schema):
    assert bench.run(widget, "--out", "r") == 0
    record = json.loads(record_file(bench).read_text())
    record_file(bench).write_text(json.dumps(record | {"schema_version": schema}))
    assert bench.run(widget, "--out", "r") == 0
    assert cells(bench.folder / "r")[0]["status"] == "done"
    assert "schema_version" in bench.err and "set aside" in bench.err
    assert json.loads(record_file(bench).read_text())["schema_version"] == SCHEMA
