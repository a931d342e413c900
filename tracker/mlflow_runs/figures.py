"""What all pictures have in common: an empty figure, its title, and the PNG it becomes."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches, a hundred dots each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Without pyplot: no global state, no window system, nothing to close.
    figure = Figure(figsize=(width, height), dpi=100)
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """``figure`` as a picture."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes, which is no news for the terminal.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(content, format="png", pil_kwargs={"compress_level": 3})
    return content.getvalue()
