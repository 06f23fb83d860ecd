"""Measured latencies as a table, and as a figure of quality over the latency of single images."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from anoseg_bench.formatting import counted, one_line
from anoseg_bench.metrics import metric
from anoseg_bench.report import notes
from anoseg_bench.report.plots import COLOURS, MARKERS, axes, legend, title_of
from anoseg_bench.report.render import Line, Table, TableCell
from anoseg_bench.report.results import Results
from anoseg_bench.store.latency import NAME, Latencies

#: What the figure shows over the latency.
QUALITY = "iou_max"
#: How many times the smallest latency the largest may be on a linear axis.
FAR = 8


def latency_table(results: Results, measured: Latencies) -> Table:
    """Return the measurements as a table."""
    titles = dict(zip(results.variants, results.titles, strict=True))
    found, load = measured.latencies, measured.machine.get("load_before")
    several = len({latency.folder for latency in found}) > len({(latency.variant, latency.runtime) for latency in found})
    lines = []
    for latency in found:
        name = f"{latency.runtime} ({one_line(latency.folder)})" if several and latency.folder else latency.runtime
        numbers = [f"{value:.1f}" for value in (latency.median_ms, latency.p95_ms, latency.p99_ms, latency.images_per_s)]
        texts = [titles[latency.variant], name, str(latency.threads), str(latency.batch), *numbers, f"{latency.peak_mib:.0f}"]
        lines.append(Line([TableCell(text) for text in texts]))
    header = [
        "method",
        "runtime",
        "threads",
        "batch",
        "median (ms)",
        "95th percentile",
        "99th percentile",
        "images/s",
        "peak memory (MiB)",
    ]
    first = found[0]
    when = "" if load is None else f" (load {load:.1f} when it began)"
    note = (
        f"From an image of {first.width}x{first.height} px in memory to map, score and decision; milliseconds of a call; each line "
        f"in a process of its own on {one_line(str(measured.machine.get('processor')))}{when}, "
        f"{min(latency.calls for latency in found)} calls at least. Measured by the command latency."
    )
    return Table(NAME, f"Latency on {one_line(first.category)}", header, lines, [note, *notes.pretrained(results)])


def latency_figure(results: Results, measured: Latencies) -> Figure | None:
    """Draw quality over the latency of single images, with the fewest threads; None without single images."""
    shown = measured.of_single_images
    if not shown:
        return None
    category = shown[0].category
    numbers = dict(zip(results.variants, results.numbers(QUALITY, [results.categories.index(category)]), strict=True))
    runtimes = list(dict.fromkeys(latency.runtime for latency in shown))
    variants = [variant for variant in results.variants if variant in {latency.variant for latency in shown}]
    what = f"{metric(QUALITY).title} over latency, {category}, batch 1, {counted(shown[0].threads, 'thread')}"
    figure, ax = axes(title_of(results, what, 3.3), "median latency (ms)", f"{metric(QUALITY).title} (%)")
    for latency in shown:
        number, colour = numbers[latency.variant], COLOURS[results.variants.index(latency.variant) % len(COLOURS)]
        marker = MARKERS[runtimes.index(latency.runtime) % len(MARKERS)]
        below, above = (100 * length for length in number.reach)
        style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4.5, "elinewidth": 0.6}
        ax.errorbar(latency.median_ms, 100 * number.mean, [[below], [above]], **style)
    times = [latency.median_ms for latency in shown]
    if max(times) > FAR * min(times):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        ax.set_xlim(0)
    places = [results.variants.index(variant) for variant in variants]
    handles = [Line2D([], [], color=COLOURS[v % len(COLOURS)], lw=2) for v in places]
    handles += [Line2D([], [], color="#555555", marker=MARKERS[i % len(MARKERS)], ls="") for i in range(len(runtimes))]
    legend(figure, handles, [*(results.titles[v] for v in places), *runtimes])
    return figure
