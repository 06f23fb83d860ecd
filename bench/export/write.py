"""An exported model in its folder: written aside, checked, and put in place together with what describes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anoseg_bench.errors import UsageError
from anoseg_bench.evaluation.predict import tiling_of
from anoseg_bench.export.card import ABOUT, CARD, VERSION, card, describe, sha256
from anoseg_bench.export.check import check
from anoseg_bench.export.formats import FORMATS, choose_format
from anoseg_bench.export.graph import Deployed
from anoseg_bench.formatting import counted
from anoseg_bench.methods.base import Method
from anoseg_bench.store.cells import CellResult, Row, Run, to_json
from anoseg_bench.store.files import half_written, put_in_place, staged, write_file
from anoseg_bench.store.folders import CLAIMS

_STAGED = "export"
#: All names that an exported model's folder may have.
_NAMES = {ABOUT, CARD} | {name for kind in FORMATS.values() for name in kind.files}
#: An image by name, and what reads it.
Images = Sequence[tuple[str, Callable[[], np.ndarray]]]


def check_place(folder: Path) -> str:
    """Check that a model may be written into a folder: a new or empty one, or one of an earlier export, which is returned in words.

    Raises
    ------
    UsageError
        If it is a file, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"Expected a folder for the model, but '{folder}' is a file; give another --out.")
    own = {*half_written(folder, _STAGED)}
    names = {path.name for path in folder.iterdir() if path not in own} - {CLAIMS} if folder.is_dir() else set()
    if others := sorted(names - _NAMES or (names if ABOUT not in names else ())):
        raise UsageError(
            f"Expected a new folder for the model, or one of an earlier export, but '{folder}' holds '{others[0]}'; "
            "give another --out."
        )
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        return f"{about['dataset']['category']} {about['variant']} seed {about['seed']} as {about['format']}"
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError):
        return "a model that cannot be read"


def check_whole(row: Row) -> None:
    """Check that a row's method sees whole images.

    Raises
    ------
    UsageError
        If it works on tiles.
    """
    if row.result and (side := tiling_of(row.result).side):
        raise UsageError(
            f"'{row.variant}' works on tiles of {side} px, which no exported model cuts: use `predict`, or a model of whole images."
        )


def write_model(
    run: Run, row: Row, method: Method, result: CellResult, kind: str, images: Images, folder: Path, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Write the model of a row in a format into a folder, and return what ``model.json`` holds.

    Parameters
    ----------
    images : sequence of (str, callable)
        What it is checked on.
    tell : callable
        Takes what is done.

    Raises
    ------
    UsageError
        If the method says that it has no graph.
    BenchError
        If the model cannot be written, or differs from the harness; nothing is left then.
    """
    check_whole(row)
    if method.no_graph:
        raise UsageError(f"'{row.method}' cannot be exported: {method.no_graph}.")
    chosen = choose_format(kind)
    deployed = Deployed(method, result.value("image_threshold_deployable"), result.value("threshold_deployable")).eval()
    with staged(folder, _STAGED) as aside:
        tell(f"writing {row.title} as {kind}")
        chosen.write(deployed, aside)
        tell(f"checking it on {counted(len(images), 'image')}")
        model = chosen.open(aside / chosen.files[0], deployed.outputs, 0)
        checked = check(method, result, model, ((name, read()) for name, read in images))
        about = describe(run, row, result, kind, aside, deployed.outputs, checked, method.probability)
        write_file(aside / ABOUT, to_json(about))
        write_file(aside / CARD, card(about))
        put_in_place(aside, folder, [folder / name for name in sorted(_NAMES)])
    return about


def open_model(folder: Path) -> dict[str, Any]:
    """Return what ``model.json`` in a folder holds, whose files are whole.

    Raises
    ------
    UsageError
        If there is none, or a file is not the one that was exported.
    """
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if about["schema_version"] > VERSION:
            raise UsageError(f"'{folder}' was exported by a newer version; update this one.")
        for name, facts in about["files"].items():
            if sha256(folder / name) != facts["sha256"]:
                raise ValueError(f"{name} has been changed, or is not whole")
        choose_format(about["format"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"Expected an exported model in '{folder}', but it cannot be used ({reason}); export it again.") from error
    return about
