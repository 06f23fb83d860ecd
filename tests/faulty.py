"""A method that does what methods should not: for tests of what that costs. Named on the command line as ``faulty.py:Faulty``.

It imports torch where a cell runs only, as the commands of these tests are many and the import takes seconds.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from pydantic import Field

from anoseg_bench.methods.base import Method, MethodConfig, Prediction


class FaultyConfig(MethodConfig):
    """What to do, for how long, and where to note that training began."""

    action: str = "nothing"
    seconds: float = Field(0.0, description="of training, in ten steps")
    marks: str = Field("", description="a folder: each training adds a line to the file <action>-<seed>")


class Faulty(Method):
    """Distance to a random colour, learnt after a fault."""

    Config = FaultyConfig

    def _fit(self, images, progress):
        import torch

        config = self.config
        if config.marks:
            with (Path(config.marks) / f"{config.action}-{self.seed}").open("a") as file:
                file.write(f"{os.getpid()}\n")
        for step in range(1, 11):
            time.sleep(config.seconds / 10)
            progress(step, 10, 1 / step)
        self.colour = torch.rand(3) * 255
        getattr(self, config.action)()

    def nothing(self):
        pass

    def raises(self):
        raise RuntimeError("something\nbroke")

    def exits_hard(self):
        os._exit(3)

    def calls_exit(self):
        sys.exit(4)

    def crashes(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def hangs(self):
        time.sleep(10_000)

    def hangs_deaf(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            pass

    def exhausts_memory(self):
        self.hoard = [np.empty(2**27) for _ in range(64)]  # 64 GiB of addresses

    def prints_binary(self):
        os.write(1, bytes(range(256)) * 40)
        os.write(2, b"\xff\xfe\x00" * 1000)

    def forks(self):
        os.fork()  # both go on

    def leaves_a_child(self):
        if os.fork() == 0:
            time.sleep(10_000)

    def _predict(self, images):
        import torch

        if self.config.action == "wrong_shape":
            return Prediction(torch.zeros(len(images) + 1, 8, 8))
        return Prediction((images.float() - self.colour[:, None, None]).abs().mean(1))

    def wrong_shape(self):
        pass

    def state(self):
        return {"colour": self.colour}

    def load_state(self, state):
        self.colour = state["colour"]
