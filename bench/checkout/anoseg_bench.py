"""Makes this checkout the package `anoseg_bench`, as it is when installed, for whoever has this folder on the path.

A folder of its own, so that the path does not also offer `bench`, `methods` and `datasets` under names of their own.
"""

import importlib.util
import sys
from pathlib import Path

bench = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location(
    __name__, bench / "__init__.py", submodule_search_locations=[str(bench), str(bench.parent)]
)
assert spec is not None and spec.loader is not None
package = importlib.util.module_from_spec(spec)
sys.modules[__name__] = package  # what an import of this name returns from now on
spec.loader.exec_module(package)
