"""Compare image scores of AnoSeg without any test image: held-out normals against the same with drawn defects, by kept models.

    python run_bench.py --methods anoseg --category all --keep-models --out results/NAME
    python -m tests.tools.validate_scores --run results/NAME [--dataset ... --data-root DIR] [--table FILE.csv]

Candidates: the mean of the hottest share of the map's pixels, the largest mean in a window, the detector, and the mean of detector
and hottest pixels. In each category the candidate that is best on the *others* is named, with what it gives there. Beside it: how
far an exposure 10 % up or down moves the median score of the normals, in their interquartile ranges. The defects are those of
`tests.validate_anomalies`. Rows of several runs gather in the table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from anoseg_bench.datasets.base import Dataset
from anoseg_bench.evaluation.cell import resize
from anoseg_bench.evaluation.holdout import hold_out
from anoseg_bench.evaluation.predict import load_method
from anoseg_bench.methods.anoseg.method import TOP, AnoSeg, top_mean
from anoseg_bench.methods.base import Method
from anoseg_bench.store.cells import Run
from anoseg_bench.validation import open_dataset
from tests.tools.validate_anomalies import validation_set

SHARES, WINDOWS = (0.0003, 0.001, 0.003, 0.01, 0.03), (3, 7, 15)


def candidates(method: Method, images: torch.Tensor) -> dict[str, np.ndarray]:
    """Return image scores by name, each (N,), of images uint8 (N, 3, S, S)."""
    predictions = [method.predict(batch) for batch in images.split(method.config.batch_size)]
    maps = torch.cat([prediction.maps for prediction in predictions])
    scores = {"maximum": maps.flatten(1).amax(1).numpy()}
    scores |= {f"top {100 * share:g} %": top_mean(maps[:, None], share).numpy() for share in SHARES}
    side = maps.shape[-1] / 128
    for window in WINDOWS:
        size = round(window * side) | 1
        scores[f"window {window} of 128"] = np.array([cv2.blur(m, (size, size)).max() for m in maps.numpy()])
    if "detector" in predictions[0].other_scores:
        scores["detector"] = torch.cat([prediction.other_scores["detector"] for prediction in predictions]).numpy()
        scores["detector, top"] = (scores["detector"] + scores[f"top {100 * TOP:g} %"]) / 2
    return scores


def rows_of(run: Run, dataset: Dataset, device: str, per_kind: int) -> list[dict[str, str | float]]:
    """Return what each candidate gives in each category of a run."""
    rows: list[dict[str, str | float]] = []
    for row in run.rows:
        if row.method != "anoseg":
            continue
        method, result = load_method(run, row, device)
        assert isinstance(method, AnoSeg)
        size = method.config.input_size
        _, held_out = hold_out(dataset.load(row.category), result.record.identity.trained["holdout"], row.seed)
        normals = torch.stack([resize(item.load_image(), size) for item in held_out])
        pixels = normals.permute(0, 2, 3, 1).contiguous().numpy()
        sources = [c for c in dataset.categories() if c != row.category] or [row.category]
        others = np.stack(
            [resize(i.load_image(), size).permute(1, 2, 0).numpy() for c in sources for i in dataset.load(c).train[:10]]
        )
        marred, _, _ = validation_set(pixels, others, per_kind, seed=7)
        clean, defective = (candidates(method, x) for x in (normals, torch.from_numpy(marred).permute(0, 3, 1, 2).contiguous()))
        exposed = [candidates(method, (normals.float() * gain).round().clamp(0, 255).byte()) for gain in (0.9, 1.1)]
        for name in clean:
            truth = np.repeat([0, 1], [len(clean[name]), len(defective[name])])
            middle, width = np.median(clean[name]), np.subtract(*np.percentile(clean[name], [75, 25]))
            rows.append(
                {
                    "variant": row.variant,
                    "category": row.category,
                    "seed": row.seed,
                    "score": name,
                    "auroc": 100 * roc_auc_score(truth, np.concatenate([clean[name], defective[name]])),
                    "shift": max(abs(float(np.median(e[name]) - middle)) for e in exposed) / max(width, 1e-12),
                }
            )
    return rows


def left_out(table: pd.DataFrame) -> pd.DataFrame:
    """Return for each category the candidate that is best on the others, and what it gives here."""
    means = table.pivot_table(index="score", columns="category", values="auroc")
    rows = []
    for category in means:
        best = means.drop(columns=category).mean(axis=1).idxmax()
        rows.append(
            {
                "category": category,
                "best on the others": best,
                "here": means.loc[best, category],
                "best here": means[category].max(),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Print the means over the categories, and each category left out."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--run", type=Path, required=True)
    parse.add_argument("--dataset", default="synthetic")
    parse.add_argument("--data-root", type=Path)
    parse.add_argument("--device", default="cpu")
    parse.add_argument("--per-kind", type=int, default=24)
    parse.add_argument("--table", type=Path, help="rows that are there stay, those of this run are added")
    arguments = parse.parse_args()
    arguments.config, arguments.set = None, []
    _, dataset, _ = open_dataset(arguments)
    table = pd.DataFrame(rows_of(Run.load(arguments.run), dataset, arguments.device, arguments.per_kind))
    if arguments.table:
        if arguments.table.exists():
            table = pd.concat([pd.read_csv(arguments.table), table])
            table = table.drop_duplicates(["variant", "category", "seed", "score"], keep="last")
        table.to_csv(arguments.table, index=False, float_format="%.4f")
    summary = table.groupby("score", sort=False).agg(auroc=("auroc", "mean"), worst=("auroc", "min"), shift=("shift", "max"))
    print(summary.round(2).to_markdown())
    print()
    if table.category.nunique() > 1:
        print(left_out(table).round(1).to_markdown(index=False))


if __name__ == "__main__":
    main()
