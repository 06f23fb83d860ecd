"""The plan from Python, and what it makes of what was typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from anoseg_bench import Plan, load_run, run
from anoseg_bench.cli import main
from anoseg_bench.errors import UsageError
from anoseg_bench.evaluation.inspection import inspect
from anoseg_bench.execution.schedule import resolve
from anoseg_bench.store.cells import Run


def plan_of(widget: Path, tmp_path: Path, **more) -> Plan:
    """Return a plan on the small category."""
    return Plan.of(
        "pixel_stats,random", dataset="mvtec_layout", data_root=widget, profile="demo", out=tmp_path / "r" / "run", **more
    )


def test_a_plan_is_made_run_and_loaded(widget, tmp_path):
    results = run(plan_of(widget, tmp_path, seeds=[0, 1], workers=1), quiet=True)
    again = load_run(tmp_path / "r" / "run")
    assert results.variants == ["pixel_stats", "random"] and results.seeds == [0, 1]
    assert (results.metrics["pixel_auroc"] == again.metrics["pixel_auroc"]).all()
    assert set(results.frame.variant) == {"pixel_stats", "random"}
    assert again.numbers("pixel_auroc", [0])[1].high > again.numbers("pixel_auroc", [0])[1].low


def test_a_plan_is_frozen_and_makes_no_folder(widget, tmp_path):
    plan = plan_of(widget, tmp_path)
    with pytest.raises(AttributeError):
        plan.profile = "full"  # type: ignore[misc]
    assert not (tmp_path / "r").exists() and plan.out.is_absolute()


def test_settings_as_a_mapping_or_as_typed_are_the_same(widget, tmp_path):
    typed = Plan.of("ae_recon", settings=["ae_recon.latent=5"], profile="demo", out=tmp_path / "a")
    given = Plan.of("ae_recon", settings={"ae_recon": {"latent": 5}}, profile="demo", out=tmp_path / "a")
    assert typed.variants == given.variants
    with pytest.raises(UsageError, match="Did you mean: latent"):
        Plan.of("ae_recon", settings={"ae_recon": {"latnt": 5}}, out=tmp_path / "a")


def test_resolve_changes_nothing(widget, tmp_path):
    plan = plan_of(widget, tmp_path)
    inspected = {"widget": inspect(plan.dataset, "widget", tmp_path / "content", [])}
    decisions = resolve(plan, inspected, Run(plan.out).store)
    assert [d.action for d in decisions] == ["run", "run"] and not (tmp_path / "r").exists()
    run(plan, quiet=True)
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "r").rglob("*"))
    assert [d.action for d in resolve(plan, inspected, Run(plan.out).store)] == ["take", "take"]
    assert resolve(plan, {"widget": "it cannot be read"}, Run(plan.out).store)[0].reason == "it cannot be read"
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "r").rglob("*")) == before


def test_the_command_is_kept_as_it_was_given(widget, tmp_path, monkeypatch, capsys):
    """Not as this process's own arguments."""
    monkeypatch.chdir(tmp_path)
    given = ["--dataset", "mvtec_layout", "--data-root", str(widget), "--methods", "random", "--profile", "demo", "--out", "a b/r"]
    assert main(given) == 0
    assert Run.load(tmp_path / "a b" / "r").info.command.endswith("--profile demo --out 'a b/r'")
    capsys.readouterr()
