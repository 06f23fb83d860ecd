"""The command of the benchmark: ``python run_bench.py --help``. It runs this checkout's code, whatever else is installed."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent / "bench" / "checkout")  # in place of the folder of this file

from anoseg_bench.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
