"""Every registered dataset adapter passes every check of the contract, on data made here."""

from __future__ import annotations

from pathlib import Path

import pytest

from anoseg_bench.datasets import DATASETS
from tests.contracts.dataset_checks import CHECKS
from tests.helpers import make_category


@pytest.fixture(scope="session")
def roots(tmp_path_factory) -> dict[str, Path]:
    """One root per adapter that needs files."""
    mvtec = tmp_path_factory.mktemp("mvtec")
    make_category(mvtec, "widget")
    make_category(mvtec, "gadget", size=(33, 57))
    folder = tmp_path_factory.mktemp("folder")
    category = make_category(mvtec.parent / "plain", "parts", train=8)
    for source, target in (("train/good", "normal"), ("test/spot", "defective"), ("ground_truth/spot", "mask")):
        (folder / "parts").mkdir(exist_ok=True)
        (category / source).rename(folder / "parts" / target)
    return {"mvtec_layout": mvtec, "mvtec_ad": mvtec, "folder": folder}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", DATASETS.names())
def test_contract(name, check, roots):
    cls = DATASETS[name].load()
    if cls.needs_root:
        assert name in roots, f"add data for the adapter '{name}' to the fixture roots"
    check(lambda: cls(roots.get(name)))
