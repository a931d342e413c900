"""The supervisor of the background, with workers that have no model."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pipeline.training import supervisor
from tests.training_worker import COMMAND

if __name__ == "__main__":
    code = supervisor.main(worker=COMMAND)
    (Path(sys.argv[2]) / "control" / f"ended.{os.getpid()}").write_text(str(code))
    sys.exit(code)
