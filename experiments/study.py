"""What the experiments share: sizes, seeds, pictures, claims that are checked, and the page that results.

An experiment is a file with a docstring, which is the text of its page, and ``run(study)``::

    python experiments/NAME.py            # full size; writes docs/experiments/NAME.md and its pictures
    python experiments/NAME.py --small    # in seconds; writes runs/experiments/NAME

The exit status is 1 when a claim does not hold.
"""

from __future__ import annotations

import argparse
import inspect
import io
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))  # for its systems
DOCS = ROOT / "docs" / "experiments"
SMALL = ROOT / "runs" / "experiments"
#: Seeds that no experiment was tuned on.
FIRST_SEED = 2100
FRAMES_A_SECOND = 10


@dataclass
class Study:
    """One run of an experiment: what it showed, in order, and which of its claims held."""

    small: bool
    items: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def pick(self, small: Any, full: Any) -> Any:
        """The value for this size."""
        return small if self.small else full

    def seeds(self, small: int = 1, full: int = 5) -> range:
        """So many seeds."""
        return range(FIRST_SEED, FIRST_SEED + self.pick(small, full))

    def text(self, markdown: str) -> None:
        """A paragraph of the page."""
        self.items.append({"kind": "text", "text": inspect.cleandoc(markdown)})

    def table(self, caption: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows of equal columns."""
        self.items.append({"kind": "table", "caption": caption, "rows": [dict(row) for row in rows]})

    def figure(self, name: str, figure: Figure, alt: str) -> None:
        """A figure; ``alt`` says what is seen."""
        self._picture(f"{name}.png", _png(_pixels(figure)), alt)

    def movie(self, name: str, figures: Iterable[Figure], alt: str, seconds: float = 6.0) -> None:
        """Figures one after the other, as a moving picture that rests for a second at its end."""
        frames = [Image.fromarray(_pixels(figure, dpi=80)) for figure in figures]
        each = round(1000 * seconds / len(frames))
        buffer = io.BytesIO()
        lengths = [each] * (len(frames) - 1) + [each + 1000]
        options: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": lengths}
        frames[0].save(buffer, format="webp", loop=0, quality=60, method=4, **options)
        self._picture(f"{name}.webp", buffer.getvalue(), alt)

    def check(
        self,
        claim: str,
        measured: float,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        near: float | None = None,
        within: float | None = None,
    ) -> None:
        """A claim with what was measured, which is to be at most or at least something, or near a value."""
        if (near is None) != (within is None) or [at_most, at_least, near].count(None) != 2:
            raise ValueError("a check needs one of at_most, at_least, and near with within")
        measured = float(measured)
        if at_most is not None:
            expected, holds = f"at most {_short(at_most)}", measured <= at_most
        elif at_least is not None:
            expected, holds = f"at least {_short(at_least)}", measured >= at_least
        else:
            assert near is not None and within is not None
            expected, holds = f"{_short(near)} ± {_short(within)}", abs(measured - near) <= within
        row = {"claim": claim, "measured": _short(measured), "expected": expected}
        self.checks.append({**row, "holds": bool(holds and math.isfinite(measured))})
        print(f"{'holds' if self.checks[-1]['holds'] else 'FAILS'}  {claim}: {row['measured']} ({expected})")

    @property
    def holds(self) -> bool:
        """Whether every claim does."""
        return all(check["holds"] for check in self.checks)

    def _picture(self, file: str, content: bytes, alt: str) -> None:
        if file in self.files:
            raise ValueError(f"there is a picture {file} already")
        self.files[file] = content
        self.items.append({"kind": "picture", "file": file, "alt": alt})


def main(run: Callable[[Study], None]) -> None:
    """Run an experiment as the command line asks, write its page, and exit with 1 if a claim fails."""
    source = Path(inspect.getfile(run))
    text = inspect.cleandoc(sys.modules[run.__module__].__doc__ or "")
    parser = argparse.ArgumentParser(description=text.partition("\n")[0].lstrip("# "))
    parser.add_argument("--small", action="store_true", help="in seconds, into runs/experiments")
    study = Study(parser.parse_args().small)
    began = time.perf_counter()
    try:
        run(study)
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing was written")
    seconds = time.perf_counter() - began
    facts = {"seconds": round(seconds, 1), "threads": torch.get_num_threads(), "torch": torch.__version__}
    result = {"name": source.stem, "size": "small" if study.small else "full", **facts}
    result |= {"text": text, "checks": study.checks, "items": study.items}
    folder = (SMALL if study.small else DOCS) / source.stem
    _write(folder, study.files, result)
    if not study.small:
        from pages import write_pages

        write_pages(DOCS)
    print(f"{source.stem}: {seconds:.0f} s, {folder.relative_to(ROOT)}")
    sys.exit(0 if study.holds else 1)


def _write(folder: Path, files: Mapping[str, bytes], result: Mapping[str, Any]) -> None:
    """Pictures first, what names them last; pictures of before go."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    partial = folder / "result.json.partial"
    partial.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    partial.replace(folder / "result.json")
    for path in folder.iterdir():
        if path.suffix in (".png", ".webp") and path.name not in files:
            path.unlink()


def _short(value: float) -> str:
    """Four digits at most."""
    return f"{value:.4g}"


def _pixels(figure: Figure, dpi: int = 110) -> np.ndarray:
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels).quantize(128, dither=Image.Dither.NONE)
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()
