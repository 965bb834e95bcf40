"""Text of letters: cut into stretches, of which windows are the rows, and written again."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..files import check_file
from ..rows import Rows
from .dataset import Dataset, fit_preprocess
from .limits import check_size
from .schema import Schema
from .settings import LEAST, LoadSettings
from .split import Stretches
from .text import number, quoted

#: Suffix of a file of text; one of numbers with that suffix is a table.
SUFFIX = ".txt"
#: Characters of a window where nothing is said.
WINDOW = 64
#: Different characters of a text at most.
MOST_CHARACTERS = 8192
#: Lines that are looked at, and characters of one, to tell text from a table.
LINES, WIDTH = 100, 10_000
#: Windows of a stretch, about, and stretches at least.
LONG, FEWEST = 32, 16
#: Numbers of all windows to train on, about: these overlap where a text is short.
NUMBERS = 4_000_000
#: Bytes that a character takes at most while a text is read, and in all of its windows.
CHARACTER = 24
#: What stands between two texts of a file.
BETWEEN = "\n----------\n"


def is_prose(path: Path) -> bool:
    """Whether a file is text, and not a table of numbers: by its suffix and its first lines.

    A table has a cell that is a number in at least half of the lines below the first.
    """
    if path.suffix.lower() != SUFFIX or not path.is_file():
        return False
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = [line for _ in range(LINES) if (line := file.readline(WIDTH))]
    except (UnicodeDecodeError, OSError):  # which reading it as a table will say
        return False
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    below = lines[1:] or lines
    return bool(below) and 2 * sum(map(_has_number, below)) < len(below)


def _has_number(line: str) -> bool:
    cells, words = re.split("[,;\t]", line), line.split()
    return any(number(cell.strip()) is not None for cell in cells) or all(
        number(word) is not None for word in words
    )


def load_prose(path: Path, settings: LoadSettings) -> Dataset:
    """The windows of a text, each a row of characters by their numbers in its alphabet.

    The text is cut into stretches of equal length, and each of them is trained on or held out as a whole, so
    that no window to train on overlaps one that is held out.  Held-out windows lie side by side; those to
    train on overlap each other where the text is short.

    Raises ValueError for settings of tables and images, a file that is no text in UTF-8, a text that is
    too short, and one of a single character or of too many different ones.
    """
    _check_settings(path, settings)
    size = WINDOW if settings.window is None else settings.window
    text = read_text(path, settings.max_size)
    least = 2 * LEAST * size
    if len(text) < least:
        raise ValueError(
            f"{path}: {len(text):,} characters, expected at least {least:,}, which are {2 * LEAST} windows "
            f"of {size}; take a longer text or a smaller --window"
        )
    codes, alphabet = _coded(path, text)
    count = max(FEWEST, len(codes) // (LONG * size))
    stretches = codes[: len(codes) // count * count].reshape(count, -1)
    held, train = Stretches.parted(count, settings.holdout, settings.seed)
    apart = _distance(size, len(train) * stretches.shape[1])
    seen = torch.from_numpy(stretches[train]).unfold(1, size, apart)
    test = torch.from_numpy(stretches[held]).unfold(1, size, size).reshape(-1, size)
    overlap = Stretches(seen.shape[1], apart)
    rows = Rows(seen.reshape(-1, size))
    schema = Schema(
        name=path.stem,
        kind="text",
        event_shape=(size,),
        levels=(0.0, len(alphabet) - 1.0, 1.0),
        alphabet=alphabet,
        source=str(path),
        rows_train=len(rows),
        rows_test=len(test),
    )
    preprocess = fit_preprocess(rows.x[:LEAST], schema, settings.preprocess)
    return Dataset(schema, rows, Rows(test), preprocess, overlap)


def _check_settings(path: Path, settings: LoadSettings) -> None:
    plain = LoadSettings()
    names = ("condition", "columns", "exclude", "sample_weight", "deduplicate", "space", "rows", "resize")
    for name in names:
        if getattr(settings, name) != getattr(plain, name):
            raise ValueError(
                f"{name}: {path} is text, which has no columns, no rows and no pixels; leave it out"
            )
    if settings.noise not in (None, "auto"):
        raise ValueError(f"noise: {settings.noise}: {path} is text, which takes no noise; leave it out")


def read_text(path: Path, max_size: float) -> str:
    """The characters of a file, each kind of line end as one.

    Raises ValueError for more than ``max_size`` gigabytes, and for what is no text in UTF-8.
    """
    check_size(str(path), CHARACTER * check_file(path), max_size, "characters")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8 (byte {error.start + 1:,})") from None
    if "\0" in text:
        raise ValueError(f"{path}: not a text file: character {text.index(chr(0)) + 1:,} is NUL")
    return text


def _coded(path: Path, text: str) -> tuple[np.ndarray, str]:
    """The numbers of all characters in the alphabet of the text, float32, and it."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    found, codes = np.unique(points, return_inverse=True)
    if not 2 <= len(found) <= MOST_CHARACTERS:
        got = f"only {text[0]!r}" if len(found) == 1 else f"{len(found):,}"
        raise ValueError(
            f"{path}: expected a text of 2 to {MOST_CHARACTERS:,} different characters, got {got}"
        )
    return codes.astype(np.float32), "".join(map(chr, found.tolist()))


def _distance(size: int, characters: int) -> int:
    """Characters from one window to the next: a divisor of ``size``, so that some lie side by side."""
    divisors = (k for k in range(1, size + 1) if size % k == 0 and characters * size <= NUMBERS * k)
    return next(divisors, size)


def windows_of(path: Path, schema: Schema, max_size: float) -> Rows:
    """The windows of a new text, side by side, in the alphabet of ``schema``.

    Raises ValueError for a text that is shorter than a window, and for a character that the alphabet lacks;
    warns of the last characters where they fill no window.
    """
    text, size, known = read_text(path, max_size), schema.event_shape[0], schema.alphabet
    if len(text) < size:
        raise ValueError(
            f"{path}: {len(text)} character{'s' * (len(text) != 1)}, expected at least a window of {size}"
        )
    place = {character: code for code, character in enumerate(known)}
    unknown = next((i for i, character in enumerate(text) if character not in place), None)
    if unknown is not None:
        line = text.count("\n", 0, unknown) + 1
        raise ValueError(
            f"{path}: line {line} has the character {quoted(text[unknown])}, which is not among the "
            f"{len(known)} of the text that was learnt"
        )
    count = len(text) // size
    rest = len(text) - count * size
    if rest:
        told = f"the last {rest} characters fill no window of {size} and are left out"
        warnings.warn(f"{path}: {told}", UserWarning, stacklevel=2)
    codes = np.fromiter((place[character] for character in text[: count * size]), np.float32)
    return Rows(torch.from_numpy(codes.reshape(count, size)))


def as_texts(x: Tensor, alphabet: str) -> list[str]:
    """Rows of numbers ``(N, window)`` as texts.

    >>> as_texts(torch.tensor([[0.0, 1.0, 0.0]]), "ab")
    ['aba']
    """
    codes = x.long().clamp(0, len(alphabet) - 1).tolist()
    return ["".join(alphabet[code] for code in row) for row in codes]


def write_prose(path: Path, pieces: Iterable[Tensor], alphabet: str) -> None:
    """Write rows as texts, with :data:`BETWEEN` between two of them."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        between = ""
        for x in pieces:
            for text in as_texts(x, alphabet):
                file.write(between + text)
                between = BETWEEN
