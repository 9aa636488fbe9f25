"""Pictures of exhibits: SVG for a page, PNG for samples, PNG and PDF files. matplotlib is imported on first use.

Thread safety: matplotlib's settings are global; drawing belongs into one thread, `preload` may run in another one before.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from nncheck.report.describe import describe
from nncheck.report.drawing import draw
from nncheck.report.drawing.samples import small_pixels
from nncheck.report.exhibits import exhibit_to_dict
from nncheck.report.svg import INK, restyle
from nncheck.verdict import Exhibit, Report, Sample

FILE_INK = "#1f2328"  # Near black, for files on white paper.
_DPI = 160


def preload() -> None:
    """Import matplotlib and its fonts: 0.7 s that a thread can spend beside the checks."""
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg
    import matplotlib.figure
    import matplotlib.font_manager
    import matplotlib.legend

    matplotlib.font_manager.findfont(matplotlib.font_manager.FontProperties())


_waiting: ExitStack | None = None
_album: dict[str, Any] | None = None
_used: dict[str, Any] = {}


@contextmanager
def remembering(album: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Inside, a picture that is in the album is not drawn again. Gives those that were used, drawn or not, for another album."""
    global _album
    _album, before = album, _album
    _used.clear()
    try:
        yield _used
    finally:
        _album = before


@contextmanager
def drawing() -> Iterator[None]:
    """Inside, pictures can be drawn. With the first of them matplotlib is imported and set up for it, and put back afterwards."""
    global _waiting
    with ExitStack() as stack:
        _waiting, before = stack, _waiting
        try:
            yield
        finally:
            _waiting = before


def _remembered(what: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    """A picture by all that it depends on (numbers as a result's file has them), from the album or drawn now."""
    global _waiting
    key = hashlib.sha256(repr(what).encode("utf-8", "replace")).hexdigest()
    if _album is not None and key in _album:
        _used[key] = _album[key]
        return _album[key]
    if _waiting is not None:
        _waiting.enter_context(_settings())
        _waiting = None
    made = make()
    if _album is not None:
        _used[key] = made
    return made


@contextmanager
def _settings() -> Iterator[None]:
    """Matplotlib with its own defaults, whatever the user's matplotlibrc or script has set, and put back afterwards."""
    import matplotlib as mpl

    settings: Any = {
        "svg.fonttype": "none",  # Text stays text: small, searchable, in the reader's font.
        "svg.hashsalt": "nncheck",
        "text.parse_math": False,  # A dollar in a layer's name is a dollar.
        "axes.unicode_minus": False,
        "pdf.fonttype": 42,
    }
    with warnings.catch_warnings(), mpl.rc_context():
        # A name in a script that the fonts here lack is drawn by the reader's browser all the same.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        mpl.rcdefaults()
        mpl.rcParams.update(settings)
        yield


def to_svg(exhibit: Exhibit, key: str) -> str | None:
    """The exhibit as an `<svg>` element, or None if there is nothing to draw. Call it within `drawing()`."""
    svg: str | None = _remembered(("svg", exhibit_to_dict(exhibit), key), lambda: _drawn_svg(exhibit, key))
    return svg


def _drawn_svg(exhibit: Exhibit, key: str) -> str | None:
    figure = draw(exhibit, INK)
    if figure is None:
        return None
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return restyle(buffer.getvalue(), key=key, label=describe(exhibit))


def sample_png(sample: Sample) -> tuple[str, int, int] | None:
    """A sample's picture as a `data:` address, with the width and height to show it at; None if it has none."""
    if not sample.pixels or not sample.pixels[0]:
        return None
    rows = sample.pixels
    source, width, height = _remembered(("png", rows), lambda: _drawn_png(rows))
    return source, width, height


def _drawn_png(rows: Sequence[Sequence[Any]]) -> tuple[str, int, int]:
    import numpy as np
    from matplotlib.image import imsave

    pixels = np.clip(np.nan_to_num(np.asarray(small_pixels(rows), dtype=float)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    imsave(buffer, pixels, format="png", cmap="gray", vmin=0, vmax=255, metadata={"Software": ""})
    height, width = pixels.shape[:2]
    # A whole factor, so that every pixel of the sample is equally large.
    scale = max(1, 96 // max(height, width))
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"), width * scale, height * scale


def save_plots(report: Report, folder: str | Path) -> list[Path]:
    """Every picture of the report as a PNG and a PDF file; returns what was written. Raises OSError if it cannot write."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    with _settings():
        for name, exhibit in _named_exhibits(report):
            try:
                figure = draw(exhibit, FILE_INK, title=True)
            except Exception:  # noqa: BLE001  # one picture that cannot be drawn costs only itself; the page says why
                continue
            if figure is None:
                continue
            figure.set_facecolor("white")
            png, pdf = place / f"{name}.png", place / f"{name}.pdf"
            figure.savefig(png, format="png", dpi=_DPI, metadata={"Software": None})
            figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
            written += [png, pdf]
    return written


def _named_exhibits(report: Report) -> Iterator[tuple[str, Exhibit]]:
    """`dead-relu-1`, with `target-2-` before it where there are several targets; never more than one part of a path."""
    for t, target in enumerate(report.targets, start=1):
        prefix = f"target-{t}-" if len(report.targets) > 1 else ""
        for result in target.checks:
            for k, exhibit in enumerate(result.verdict.exhibits, start=1):
                yield re.sub(r"[^a-z0-9-]+", "_", f"{prefix}{result.id}-{k}".lower())[:100], exhibit
