"""How often intervals called 95 % hold the truth, on data whose truth is known: the tables of docs/metrics.md.

    python -m tests.tools.coverage            # about an hour on one core; --trials 100, --detector strong for a look

Images have effects of their own: how bright their normal pixels are for the method, how far defects stand out, how large they are
(lognormal). The truth is that of 200,000 images. Of two methods of equal skill, half of an image's effects (of their variance) are
the same; they should be told apart in 5 % of the trials. Rates are of fixed thresholds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from scipy import stats

from anoseg_bench.metrics import confidence
from anoseg_bench.metrics.bootstrap import Choices, draw, resampled, strata_of
from anoseg_bench.report.intervals import LEVEL, Interval, percentiles

SIZES = [(n, share) for n in (20, 60, 200) for share in (0.5, 0.75)]
RESAMPLES = 1000
#: How far defects stand out, on average, and how much that differs between images; the spread of the logarithm of their areas.
DETECTORS = {
    "weak": (1.2, 0.5, 0.6),
    "middling": (2.6, 0.7, 0.6),
    "strong": (4.0, 1.0, 0.6),
    "strong, few large defects": (4.0, 1.0, 1.2),
}
LEVELS, PIXELS = np.linspace(-6, 9, 120), 40_000
RATES = (0.0, 0.02, 0.5, 0.98, 0.995, 1.0)


def samples(
    bad: int, normal: int, detector: tuple[float, float, float], rng: np.random.Generator, methods: int = 1
) -> list[dict[str, np.ndarray]]:
    """Return what `evaluate` would keep of some images by each of some methods of equal skill: expected counts of pixels."""
    shift, spread, areas = detector
    n = bad + normal
    positives = np.concatenate([np.round(rng.lognormal(6, areas, bad)).clip(1, PIXELS // 2), np.zeros(normal)])
    negatives = PIXELS - positives
    common = rng.normal(size=(3, n))
    found = []
    for own in rng.normal(size=(methods, 3, n)):
        quiet, out, noise = (own + common) / np.sqrt(2)
        quiet *= 0.4
        loud = quiet + shift + spread * out
        found.append(
            {
                "score": np.where(positives > 0, loud, quiet) + 0.3 * noise,
                "positives": positives,
                "negatives": negatives,
                "aupimo": np.full(n, np.nan),
                "thresholds_value": LEVELS,
                "tp_value": positives[:, None] * stats.norm.sf(LEVELS - loud[:, None]),
                "fp_value": negatives[:, None] * stats.norm.sf(LEVELS - quiet[:, None]),
            }
        )
    return found


def numbers(arrays: dict[str, np.ndarray], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return the numbers that are looked at, on resamples."""
    found = resampled(arrays, weights, Choices(np.full(len(weights), np.nan), None), True)
    return {name: found[name] for name in ("pixel_auroc", "pixel_ap", "iou_max", "image_auroc")}


def truths(detector: tuple[float, float, float], share: float, rng: np.random.Generator) -> dict[str, float]:
    """Return the numbers of very many images."""
    sums: dict[str, list[float]] = {}
    for _ in range(25):
        (some,) = samples(4000, 4000, detector, rng)
        weights = np.concatenate([np.full(4000, share), np.full(4000, 1 - share)])[None]
        for name, value in numbers(some, weights).items():
            sums.setdefault(name, []).append(float(value[0]))
    return {name: float(np.mean(values)) for name, values in sums.items()}


def of_detectors(titles: list[str], trials: int, rng: np.random.Generator) -> Iterator[list[str]]:
    """Yield rows: detector, images; of each number the coverage of its interval, its truth, how often equals are told apart."""
    for title in titles:
        detector = DETECTORS[title]
        for n, share in SIZES:
            truth = truths(detector, share, rng)
            bad = int(n * share)
            inside, apart = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0)
            for _ in range(trials):
                both = samples(bad, n - bad, detector, rng, 2)
                strata = strata_of(["bad"] * n, both[0]["positives"])
                weights = draw(strata, RESAMPLES, rng)
                slopes = confidence.slopes_of(weights)
                of, other = (numbers(arrays, weights) for arrays in both)
                score, defective = both[0]["score"], both[0]["positives"] > 0
                for name, values in of.items():
                    sizes = None if name == "image_auroc" else both[0]["positives"]
                    if sizes is None:
                        draws = confidence.of_auroc(score[defective], score[~defective], confidence.shares(RESAMPLES, rng))
                    else:
                        draws = confidence.of_resamples(values, values[0], slopes, strata, sizes, min(bad, n - bad))
                    interval = percentiles(draws.low, draws.high)
                    inside[name] += interval.low <= truth[name] <= interval.high
                    difference = (values - other[name])[1:]
                    part = confidence.uncertainty(confidence.influences_of(difference, slopes, strata), sizes)
                    apart[name] += not Interval(*confidence.around_mean(difference, [part], LEVEL)).holds_zero
            shown = (f"{100 * inside[m] / trials:.0f} (of {100 * truth[m]:.1f}), {100 * apart[m] / trials:.0f}" for m in truth)
            yield [title, f"{n}, {bad} defective", *shown]


def of_rates(trials: int, rng: np.random.Generator) -> Iterator[list[str]]:
    """Yield rows: images, and the coverage of the interval of each rate."""
    quantiles = confidence.shares(RESAMPLES, rng)
    for n in (20, 60, 200):
        row = [str(n)]
        for rate in RATES:
            hits = rng.binomial(n, rate, trials)
            ends = {h: percentiles(*_draws(h, n, quantiles)) for h in set(hits.tolist())}
            row.append(f"{100 * np.mean([ends[h].low <= rate <= ends[h].high for h in hits]):.0f}")
        yield row


def _draws(hits: int, n: int, quantiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    draws = confidence.of_rate(np.full(len(quantiles), hits), np.full(len(quantiles), n), quantiles)
    return draws.low, draws.high


def main() -> None:
    """Print both tables."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--trials", type=int, default=400)
    parse.add_argument("--detector", choices=DETECTORS, nargs="+", default=[*DETECTORS])
    arguments, rng = parse.parse_args(), np.random.default_rng(0)
    trials = arguments.trials
    print("| detector | test images | pixel AUROC | pixel AP | IoU-max | image AUROC |\n|---|---|---|---|---|---|")
    for row in of_detectors(arguments.detector, trials, rng):
        print(f"| {' | '.join(row)} |", flush=True)
    print(f"\n| images | {' | '.join(f'{100 * rate:g} %' for rate in RATES)} |\n|---|{'---|' * len(RATES)}")
    for row in of_rates(20 * trials, rng):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
