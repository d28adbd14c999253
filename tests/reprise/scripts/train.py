"""`scripts/train.py` in the tests' own project: with the configs and the code of `tests/reprise`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tiny_runs import REPOSITORY

# It looks for configs/ from its own `__file__`, which is this one.
exec(compile((REPOSITORY / "scripts" / "train.py").read_text(), __file__, "exec"))
