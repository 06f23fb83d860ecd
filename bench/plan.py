"""The plan: what a user asked for, checked and resolved once; nothing behind it sees a command line. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from anoseg_bench.datasets import DATASETS
from anoseg_bench.errors import UsageError
from anoseg_bench.experiments import find_experiment
from anoseg_bench.methods import METHODS
from anoseg_bench.metrics import VERSION as METRICS_VERSION
from anoseg_bench.store.cells import slug
from anoseg_bench.store.claims import BEAT
from anoseg_bench.store.records import Identity
from anoseg_bench.validation import (
    choose_categories,
    choose_device,
    choose_folder,
    choose_profile,
    open_dataset,
    parse_duration,
    parse_rerun,
    parse_seeds,
    parse_shard,
)
from anoseg_bench.variants import (
    Variant,
    content_of,
    in_order,
    map_paths,
    match_methods,
    parse_methods,
    read_settings,
    unused_settings,
)

if TYPE_CHECKING:
    from anoseg_bench.datasets.base import Dataset

#: The methods of a plan that names none.
DEFAULT_METHODS = "anoseg,ae_recon,ae_ssim,gradcam,pixel_stats,image_stats,random"


@dataclass(frozen=True)
class Cell:
    """The unit of work, of caching and of failure.

    Attributes
    ----------
    dataset : str
        The dataset's label.
    device : str
        The type of the device: ``"cpu"``, ``"cuda"``, ``"mps"``.
    content : str
        Hash of the category's images and masks.
    """

    variant: Variant
    dataset: str
    category: str
    seed: int
    holdout: float
    device: str
    content: str

    @cached_property
    def trained(self) -> dict[str, Any]:
        """What the maps depend on; threads, machine and source are provenance."""
        config = map_paths(self.variant.config.model_dump(), content_of)  # wherever a file lies, what it holds counts
        trained = {
            "method": self.variant.method,
            "config": to_jsonable_python(in_order(config)),
            "version": self.variant.config.version,
            "dataset": self.dataset,
            "category": self.category,
            "content": self.content,
            "seed": self.seed,
            "holdout": self.holdout,
            "device": self.device,
        }
        if conditions := self.variant.conditions.changed:  # without any, the key is what it was before there were conditions
            trained["conditions"] = conditions
        if origin := METHODS[self.variant.method].origin:
            trained["origin"] = origin
        return trained

    @property
    def identity(self) -> Identity:
        """What the result depends on: what was trained, and by which version of the metrics it was evaluated."""
        return Identity(trained=self.trained, metrics=METRICS_VERSION)

    @cached_property
    def key(self) -> str:
        """Hash of what was trained, the cell's name in the store."""
        return hashlib.sha256(json.dumps(self.trained, sort_keys=True).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Plan:
    """What is to be run, and how; make one by `Plan.of`, which takes what a user would type.

    Attributes
    ----------
    variants : tuple of Variant
        The methods with their configurations.
    dataset : Dataset
        The adapter, with its folder and options.
    dataset_name : str
        Its name in the registry.
    categories : tuple of str
    seeds : tuple of int
    out : Path
        The folder of the run, absolute.
    exclude : tuple of str
        Patterns of images to leave out.
    holdout : float
        Share of the training images held out for thresholds, in [0, 1).
    profile : str
        ``"demo"``, ``"quick"`` or ``"full"``.
    experiment : str or None
        The paper's question that the variants answer.
    device : str
        ``"cpu"``, ``"cuda"`` or ``"mps"``.
    save_maps, keep_models : bool
        Whether all maps, and what the methods learned, are kept.
    rerun : str
        A key of `options.RERUN`.
    shard : tuple of int or None
        (i, n): every n-th cell only, from the i-th.
    engine : str
        ``"local"`` or ``"ray"``.
    workers, threads : int or None
        Cells at once, threads of each; None lets the machine decide.
    timeout : float or None
        Seconds after which a cell is ended.
    memory : float or None
        Limit of each cell's address space, GiB.
    heartbeat : float
        Seconds between two signs of life of a cell.
    ray_address, gpus_per_cell
        For the engine ``"ray"``.
    data_note : Path or None
        A text about the data: their source, licence and split.
    command : str
        The command line as it was given; empty where Python made the plan.
    notes : tuple of str
        What a user should know, like settings without effect.
    """

    variants: tuple[Variant, ...]
    dataset: Dataset
    dataset_name: str
    categories: tuple[str, ...]
    seeds: tuple[int, ...]
    out: Path
    exclude: tuple[str, ...] = ()
    holdout: float = 0.1
    profile: str = "quick"
    experiment: str | None = None
    device: str = "cpu"
    save_maps: bool = False
    keep_models: bool = False
    rerun: str = "missing"
    shard: tuple[int, int] | None = None
    engine: str = "local"
    workers: int | None = None
    threads: int | None = None
    timeout: float | None = None
    memory: float | None = None
    heartbeat: float = BEAT
    ray_address: str | None = None
    gpus_per_cell: float = 1.0
    data_note: Path | None = None
    command: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        methods: str | Sequence[str] | None = None,
        *,
        experiment: str | None = None,
        dataset: str = "synthetic",
        data_root: str | Path | None = None,
        category: str | Sequence[str] = "all",
        exclude: Sequence[str] = (),
        seeds: str | int | Sequence[int] = (0,),
        profile: str = "quick",
        config: str | Path | None = None,
        settings: Sequence[str] | Mapping[str, Mapping[str, Any]] = (),
        holdout: float = 0.1,
        tile: int | None = None,
        overlap: int | None = None,
        device: str = "auto",
        out: str | Path | None = None,
        save_maps: bool = False,
        keep_models: bool = False,
        rerun: str = "missing",
        shard: str | None = None,
        engine: str = "local",
        workers: int | None = None,
        threads: int | None = None,
        timeout: str | float | None = None,
        memory: float | None = None,
        heartbeat: float = BEAT,
        ray_address: str | None = None,
        gpus_per_cell: float = 1.0,
        data_note: str | Path | None = None,
        command: str = "",
    ) -> Plan:
        """Check and resolve what was asked for.

        Parameters
        ----------
        methods : str or sequence of str
            Names, wildcards, ``file.py:Class``, each with ``[key=value,...]`` at will; None for `DEFAULT_METHODS`.
        experiment : str or None
            A question, in place of `methods`, but where it is about any.
        category : str or sequence of str
            Names, or ``"all"``.
        seeds : str, int or sequence of int
            Numbers, or text like ``"0,1,2"``.
        config : path or None
            A YAML file of settings.
        settings : sequence of str, or mapping
            ``"method.key=value"``, or ``{method: {key: value}}``; they override those of `config`.
        tile, overlap : int or None
            Conditions of all variants that have no ``tile`` of their own, see `anoseg_bench.conditions`.
        device : str
            ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        out : path or None
            Folder of the run; None for ``results/<dataset>-<profile>``.
        shard : str or None
            ``"i/n"``.
        data_note : path or None
            A text about the data; None for ``DATASET.md`` beside them, where there is one.
        timeout : str, float or None
            Seconds, or like ``"90s"``, ``"30m"``, ``"2h"``.

        Raises
        ------
        UsageError
            If something is unknown, missing or out of its range: one line that says what, and what to do.
        """
        asked = find_experiment(experiment) if experiment else None
        if asked and methods is not None and not asked.any_methods:
            raise UsageError(
                f"Expected methods or the experiment '{experiment}', which names its own, but got both; leave one out."
            )
        methods = (asked.methods if asked else DEFAULT_METHODS) if methods is None else methods
        if overlap is not None and not tile:
            raise UsageError("--overlap is what tiles share; give --tile, too.")
        choose_profile(profile)
        _check_resources(holdout, workers, threads, timeout, memory, heartbeat)
        parsed_seeds, parsed_shard = parse_seeds(seeds), None if shard is None else parse_shard(shard)
        seconds, rerun = parse_duration(timeout), parse_rerun(rerun)
        name = DATASETS.one(dataset)
        match_methods(methods)  # a class of a file has a name from here on, for settings
        known = read_settings(Path(config) if config else None, settings, name, METHODS)
        adapter = open_dataset(name, data_root, known)
        common = {key: value for key, value in (("tile", tile), ("overlap", overlap)) if value is not None}
        variants = parse_methods(methods, profile, known, common, asked.levels if asked else {})
        notes = tuple(
            f"the settings of {unused} have no effect, as --methods does not name it"
            for unused in unused_settings(known, name, variants, profile)
        )
        categories = choose_categories(adapter, category)
        device = choose_device(device, here=engine == "local")
        if device == "cuda" and memory is not None:
            raise UsageError("--memory limits the address space, of which CUDA takes more than it uses; leave it out on cuda.")
        default = Path("results") / slug(f"{adapter.label}-{profile}{f'-{experiment}' if experiment else ''}")
        return cls(
            variants=tuple(variants),
            dataset=adapter,
            dataset_name=name,
            categories=tuple(categories),
            seeds=tuple(parsed_seeds),
            out=choose_folder(Path(out) if out is not None else default),
            exclude=tuple(exclude),
            holdout=holdout,
            profile=profile,
            experiment=experiment,
            device=device,
            save_maps=save_maps,
            keep_models=keep_models,
            rerun=rerun,
            shard=parsed_shard,
            engine=engine,
            workers=workers,
            threads=threads,
            timeout=seconds,
            memory=memory,
            heartbeat=heartbeat,
            ray_address=ray_address,
            gpus_per_cell=gpus_per_cell,
            data_note=Path(data_note) if data_note is not None else None,
            command=command,
            notes=notes,
        )

    @property
    def shifts(self) -> bool:
        """Whether test images are also predicted under shifts."""
        return self.experiment is not None and find_experiment(self.experiment).shifts

    @property
    def is_synthetic(self) -> bool:
        """Whether the images are those that this project draws."""
        return self.dataset_name == "synthetic"

    def cell(self, variant: Variant, category: str, seed: int, content: str) -> Cell:
        """Return one cell of the plan; `content` is the hash of the category's images."""
        return Cell(variant, self.dataset.label, category, seed, self.holdout, self.device, content)


def _check_resources(
    holdout: float,
    workers: int | None,
    threads: int | None,
    timeout: str | float | None,
    memory: float | None,
    heartbeat: float,
) -> None:
    if not 0 <= holdout < 1:
        raise UsageError(f"Expected --holdout in 0..1 (below 1), but got {holdout}.")
    if (workers is not None and workers < 0) or (threads is not None and threads < 1):
        raise UsageError("Expected --workers of at least 0 and --threads of at least 1.")
    if not 0.01 <= heartbeat < 1e6:
        raise UsageError(f"Expected --heartbeat of at least 0.01 s, but got {heartbeat}.")
    if workers == 0 and (timeout is not None or memory is not None):
        raise UsageError("--timeout and --memory need processes of their own: give --workers of at least 1.")
    if memory is not None and memory <= 0:
        raise UsageError(f"Expected --memory in GiB above 0, but got {memory}.")
