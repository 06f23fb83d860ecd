"""The engine for a Ray cluster: each cell is a task, retried by nobody, in a worker process that ends with it.

All machines must see the same files under the same paths: this checkout, the images, the folder of results.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from anoseg_bench import IMPORT_PATH
from anoseg_bench.errors import UsageError
from anoseg_bench.execution.engines import Setup, Task
from anoseg_bench.execution.worker import Job, Outcome, execute_logged


class _Remote:
    """A task: one Ray task."""

    def __init__(self, ray: Any, reference: Any) -> None:
        self.ray, self.reference = ray, reference
        self._outcome: Outcome | None = None

    def outcome(self) -> Outcome | None:
        if self._outcome is None and self.ray.wait([self.reference], timeout=0)[0]:
            try:
                self._outcome = self.ray.get(self.reference)
            except (self.ray.exceptions.RayError, self.ray.exceptions.RayTaskError) as error:
                cause = " ".join(str(error).split())[:200]
                self._outcome = Outcome("failed", f"its Ray worker died: {type(error).__name__}: {cause}")
        return self._outcome

    def kill(self) -> None:
        if self._outcome is None:
            self.ray.cancel(self.reference, force=True)
            self.ray.wait([self.reference], timeout=10)


class RayEngine:
    """Runs each job as a task of a Ray cluster: a running one, or one of two and more workers started for the command."""

    queues = True

    def __init__(self, setup: Setup) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing leaves the cluster
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError as error:
            raise UsageError("The engine 'ray' needs Ray; install it: pip install 'ray>=2.40'.") from error
        if not 0 < setup.gpus <= 1 and setup.gpus != int(max(1, setup.gpus)):
            raise UsageError(f"Expected --gpus-per-cell as a share up to 1 or a whole number, but got {setup.gpus:g}.")
        if setup.workers < 1:
            raise UsageError("The engine 'ray' needs --workers of at least 1.")
        self.ray = ray
        self.setup = setup
        options: dict[str, Any] = {"address": setup.ray_address or "local"}
        if not setup.ray_address:
            options |= {"num_cpus": os.cpu_count() or 1, "include_dashboard": False}
        try:
            ray.init(
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {"PYTHONPATH": str(IMPORT_PATH), "RAY_USAGE_STATS_ENABLED": "0"}},
                **options,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UsageError(f"No Ray cluster answers at '{setup.ray_address}': {' '.join(str(error).split())[:200]}") from error
        self.slots = setup.workers
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.cores = int(max((node.get("CPU", 1) for node in nodes), default=1))
        if setup.device == "cuda" and not any(node.get("GPU", 0) >= min(1, setup.gpus) for node in nodes):
            ray.shutdown()
            raise UsageError(f"No machine of the Ray cluster has {setup.gpus:g} GPUs; use --device cpu or another --gpus-per-cell.")

    def start(self, job: Job) -> Task:
        """Start a job, which takes its threads as cores, and on cuda its share of a GPU."""
        cores = min(job.threads, self.cores)
        gpus = self.setup.gpus if self.setup.device == "cuda" else 0
        remote = self.ray.remote(num_cpus=cores, num_gpus=gpus, max_retries=0, max_calls=1)(execute_logged)
        return _Remote(self.ray, remote.remote(job))

    def wait(self, tasks: list[Task], seconds: float) -> None:
        """Return when one of the tasks may have ended, at the latest after so many seconds."""
        references = [task.reference for task in tasks if isinstance(task, _Remote)]
        if references:
            self.ray.wait(references, timeout=seconds)
        else:
            time.sleep(seconds)

    def close(self) -> None:
        """Leave the cluster; one that was started for the command ends."""
        self.ray.shutdown()
