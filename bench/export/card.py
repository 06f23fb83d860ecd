"""What stands beside an exported model: ``model.json`` for programs, ``MODEL_CARD.md`` for people."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anoseg_bench import __version__
from anoseg_bench.export.check import TOLERANCE, Check
from anoseg_bench.export.formats import FORMATS
from anoseg_bench.formatting import counted, one_line, without_folders
from anoseg_bench.methods.backbones import licence_of_weights
from anoseg_bench.metrics.catalogue import metric, names_shown
from anoseg_bench.report.render import DASH
from anoseg_bench.report.results import Results
from anoseg_bench.report.verdict import DECISIONS, outcome_text, outcomes
from anoseg_bench.store.cells import CellResult, Row, Run
from anoseg_bench.store.provenance import provenance
from anoseg_bench.store.records import DataNote, Provenance

ABOUT, CARD = "model.json", "MODEL_CARD.md"
#: The form of ``model.json``.
VERSION = 1
#: The outputs: shape, type and meaning.
OUTPUTS = {
    "map": (["N", "H", "W"], "float32", "the anomaly map at the image's size, higher = more anomalous; {unit}"),
    "score": (["N"], "float32", "the image score, higher = more anomalous"),
    "defective": (["N"], "bool", "score >= thresholds.defective.value"),
    "mask": (["N", "H", "W"], "bool", "map >= thresholds.mask.value"),
}
#: What the deployable thresholds promise, by the output that they make.
PROMISES = {
    "defective": "just above the conformal quantile of the scores of {held_out} held-out normal images: a normal image like them "
    "is called defective with probability at most {asked:g}",
    "mask": "the smallest value that at most {asked:g} of all pixels of {held_out} held-out normal images reach",
}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while some := file.read(1 << 20):
            digest.update(some)
    return digest.hexdigest()


def describe(
    run: Run, row: Row, result: CellResult, kind: str, folder: Path, outputs: list[str], checked: Check, probability: bool
) -> dict[str, Any]:
    """Return the content of ``model.json`` for the model in a folder."""
    record, chosen = result.record, FORMATS[kind]
    results = Results(Run(run.path, run.info, [row]))
    unit = "a probability in 0..1" if probability else f"unbounded, in units of {row.method}'s own"
    thresholds: dict[str, Any] = {}
    for decision in DECISIONS:
        name = "defective" if decision.of == "image" else "mask"
        if name not in outputs:
            thresholds[name] = {"value": None, "reason": record.reasons.get(decision.threshold, "it is undefined")}
            continue
        promise = PROMISES[name].format(held_out=record.images.held_out, asked=decision.asked)
        thresholds[name] = {"value": result.value(decision.threshold), "promise": promise, "asked_at_most": decision.asked}
        for outcome in outcomes(results, 0, decision):
            got = {"found": (decision.defective, outcome.found), "false_alarms": (decision.normal, outcome.alarms)}
            thresholds[name] |= {
                key: {"share": number.mean, "low": number.low, "high": number.high, "of": f"{of} of the test set"}
                for key, (of, number) in got.items()
            }
            thresholds[name]["in_words"] = outcome_text(results, outcome, row.category)
            thresholds[name] |= {
                "fitness": outcome.fitness,
                "not_fit_because": outcome.faults,
                "not_proven_because": outcome.doubts,
            }
    measured = {name: results.numbers(name, [0])[0] for name in names_shown("main", "summary")}
    note = run.info.data.note if run.info.data and run.info.data.note else DataNote()
    exported = provenance("cpu")
    exported.versions[chosen.runtime] = importlib.metadata.version(chosen.runtime)
    return {
        "schema_version": VERSION,
        "format": kind,
        "files": {name: {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size} for name in chosen.files},
        "input": {
            "name": "image",
            "shape": ["N", "H", "W", 3],
            "dtype": "uint8",
            "meaning": "RGB, upright as its orientation tag says, at its own size; resizing and normalisation are in the graph",
            "black_and_white": record.value_range,
            "page": record.page,
        },
        "outputs": {
            name: {"shape": OUTPUTS[name][0], "dtype": OUTPUTS[name][1], "meaning": OUTPUTS[name][2].format(unit=unit)}
            for name in outputs
        },
        "thresholds": thresholds,
        "measured": {
            name: {"title": metric(name).title, "value": number.mean, "low": number.low, "high": number.high}
            for name, number in measured.items()
            if math.isfinite(number.mean)
        },
        "method": row.method,
        "variant": row.variant,
        "config": without_folders(record.config),
        "dataset": {"name": row.dataset, "category": row.category, "licence": note.licence, "citation": note.citation},
        "images": record.images.model_dump(),
        "profile": run.info.profile,
        "synthetic": run.info.synthetic,
        "deviations": record.deviations,
        "seed": row.seed,
        "cell": row.key,
        "trained": record.provenance.model_dump(),
        "exported": exported.model_dump() | {"command_version": __version__},
        "pretrained": None
        if not record.pretrained
        else {"weights": record.pretrained, "licence": licence_of_weights(record.config)},
        "check": asdict(checked) | {"tolerance": TOLERANCE * checked.map_range, "runtime": chosen.runtime},
    }


def card(about: dict[str, Any]) -> str:
    """Return ``MODEL_CARD.md`` for what ``model.json`` holds."""
    dataset, images, check = about["dataset"], about["images"], about["check"]
    trained, exported = (Provenance.model_validate(about[name]) for name in ("trained", "exported"))
    lines = [
        f"# {one_line(about['variant'])} for {one_line(dataset['category'])} ({about['format']})",
        "",
        f"Finds defects in images of the category '{one_line(dataset['category'])}' (dataset '{one_line(dataset['name'])}'): "
        f"`{about['method']}`, "
        f"trained on {counted(images['train'] or 0, 'normal image')}, seed {about['seed']}, profile {about['profile']}"
        f"{', ' + about['deviations'] if about['deviations'] else ''}.",
        "",
        "## Use",
        "",
        f"`{next(iter(about['files']))}` takes `image`, RGB, uint8 (N, H, W, 3), upright, of any size, and gives:",
        "",
        "| output | shape | type | meaning |",
        "|---|---|---|---|",
        *(f"| `{name}` | ({', '.join(o['shape'])}) | {o['dtype']} | {o['meaning']} |" for name, o in about["outputs"].items()),
        "",
        "Resizing, normalisation and thresholds are in the graph. " + _reading(about["input"]),
        *(
            ["Run it with `INFERENCE_PRECISION_HINT` f32: what else OpenVINO chooses changes maps."]
            if about["format"] == "openvino"
            else []
        ),
        "",
        "## Decisions",
        "",
    ]
    for name, threshold in about["thresholds"].items():
        if threshold["value"] is None:
            lines.append(f"* No `{name}`: {threshold['reason']}.")
            continue
        faults, doubts = (threshold.get(f"not_{why}_because") or [] for why in ("fit", "proven"))
        lines.append(
            f"* `{name}` at {threshold['value']:.6g}: {threshold['promise']}. "
            + (f"On the test set it {threshold['in_words']}." if "in_words" in threshold else "What it does was not measured.")
            + (f" **Not fit for use, as {' and '.join(faults)}.**" if faults else "")
            + (f" So few images do not prove it fit for use: {' and '.join(doubts)}." if doubts else "")
        )
    lines += ["", "## Measured on the test set", "", "| number | value | 95 % interval |", "|---|---|---|"]
    lines += [
        f"| {m['title']} | {m['value']:.4f} | {DASH if math.isnan(m['low']) else '{low:.4f} to {high:.4f}'.format(**m)} |"
        for m in about["measured"].values()
    ]
    synthetic = " Drawn images: the numbers say nothing about real ones." if about["synthetic"] else ""
    pretrained = about["pretrained"]
    lines += [
        "",
        f"{images['test_defective']} defective and {images['test_good']} normal test images; what the numbers mean: "
        f"docs/metrics.md of anoseg-bench.{synthetic}",
        "",
        "## Data and weights",
        "",
        f"* Images: {dataset['citation'] or one_line(dataset['name'])}; licence: {dataset['licence'] or 'not stated'}.",
        f"* Pretrained weights: {pretrained['weights'] + '; licence: ' + pretrained['licence'] if pretrained else 'none'}.",
        "",
        "## Intended use and limits",
        "",
        "* For images of this category taken as the training images were: the same part, camera, light and crop. Thresholds "
        "promise nothing for others.",
        "* It was compared on the test images alone; check it on images of your own before parts are rejected by it, and again "
        "after each change of the line.",
        "* A map marks what differs from the normal images, which need not be a defect.",
        "* For images of up to 2048 px a side it resizes as Pillow does, bit by bit; larger ones may differ by one level of 255.",
        "",
        "## Check",
        "",
        f"By {check['runtime']}, on {counted(check['images'], 'image')}: maps differ from the harness's by "
        f"{check['largest_map_difference']:.2g} at most ({check['tolerance']:.2g} is allowed), scores by "
        f"{check['largest_score_difference']:.2g}; "
        + (f"all {check['decisions']} decisions are the same; " if check["decisions"] else "there is no decision to compare; ")
        + f"{check['pixels_decided_otherwise']:,} of {check['pixels']:,} pixels lie on "
        "the other side of the threshold.",
        "",
        "## Origin",
        "",
        f"Trained by commit {trained.revision} ({trained.machine}), exported by commit {exported.revision}; versions, "
        f"configuration and checksums: `{ABOUT}`.",
        "",
    ]
    return "\n".join(lines)


def _reading(given: dict[str, Any]) -> str:
    """Return in words how images are to be read."""
    if given["black_and_white"] is None:
        return "Images of 8 bits go in as they are."
    low, high = given["black_and_white"]
    return (
        f"The training images had more than 8 bits: {low:g} was black and {high:g} white; bring yours to uint8 by "
        f"round((v - {low:g}) * 255 / {high - low:g}), clipped to 0..255."
    )
