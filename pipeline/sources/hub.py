"""What is shared by all that reads data sets of the Hugging Face hub: silence, and the ways in which it can fail."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from logging import ERROR


def quiet() -> None:
    """Keeps the hub's client from writing to the terminal: what goes wrong is told by our errors."""
    import datasets
    import huggingface_hub
    from huggingface_hub.utils.tqdm import disable_progress_bars

    for logging in (datasets.logging, huggingface_hub.logging):
        logging.set_verbosity(ERROR)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        disable_progress_bars()


def errors() -> tuple[type[Exception], ...]:
    """What is raised where a data set cannot be had or read.

    RuntimeError: a data set that is a script, or a client that was closed. TypeError: dates, images, sounds. Which
    library the client asks with depends on its version.
    """
    import datasets

    http = [import_module(name).HTTPError for name in ("httpx", "httpx2") if find_spec(name)]
    return (OSError, ValueError, RuntimeError, TypeError, datasets.exceptions.DatasetsError, *http)
