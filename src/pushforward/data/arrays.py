"""Arrays: npy and npz files, NumPy arrays, tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .limits import MAX_SIZE, check_columns, check_size
from .raw import EXACT, Raw
from .stored_arrays import StoredArray, open_npy, open_npz
from .tables import default_names, plain_numbers
from .text import hint, quoted

#: Keys of an npz file that are taken for the data, in this order.
DATA_KEYS = ("x", "X", "data", "images", "samples", "arr_0")
#: Sizes of a dimension that can be colour channels.
CHANNELS = (1, 3, 4)
#: Columns at most of another array of an npz file that can be the condition.
MOST_EXTRA = 1000


def as_numpy(x: Any, source: str) -> np.ndarray:
    """A tensor, list or array as an array of real numbers.

    Raises ValueError for complex numbers, objects and texts.
    """
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        x = (x.float() if x.dtype.is_floating_point and x.dtype.itemsize < 4 else x).numpy()
    try:
        x = np.asarray(x)
    except ValueError:
        raise ValueError(f"{source}: expected rows of equal lengths") from None
    if x.dtype.kind not in "biuf":
        known = {"c": "complex numbers", "O": "Python objects", "U": "texts", "S": "texts", "V": "records"}
        what = known.get(x.dtype.kind, str(x.dtype))
        raise ValueError(f"{source}: expected real numbers, got an array of {what}")
    return x


class ArrayTally:
    """Faults that make an array unusable, collected over its pieces."""

    def __init__(self, source: str):
        self.source = source
        self.rows = self._size = self._bad = 0
        self._first: list[int] | None = None
        self._low, self._high = math.inf, -math.inf

    def add(self, x: np.ndarray) -> None:
        """Check the next rows."""
        if x.size and x.dtype.kind in "biu":
            self._low, self._high = min(self._low, int(x.min())), max(self._high, int(x.max()))
        elif x.dtype.kind == "f" and (bad := ~np.isfinite(x)).any():
            if self._first is None:
                first = [int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape)]
                self._first = [first[0] + self.rows, *first[1:]] if first else []
            self._bad += int(bad.sum())
        self.rows += len(x) if x.ndim else 0
        self._size += x.size

    def check(self, shape: Sequence[int]) -> None:
        """Raise ValueError for integers beyond 2^53, no rows, and values that are not finite."""
        if max(-self._low, self._high) > EXACT:
            raise ValueError(f"{self.source}: integers beyond 2^53 are not exact as floating-point numbers")
        if not shape or 0 in shape[1:]:
            raise ValueError(f"{self.source}: expected an array (rows, ...), got shape {tuple(shape)}")
        if shape[0] == 0:
            raise ValueError(f"{self.source}: the array has no rows")
        if self._first is not None:
            raise ValueError(
                f"{self.source}: {self._bad} of {self._size} values are not finite, "
                f"the first at index {self._first}"
            )

    def levels(self, dtype: np.dtype[Any]) -> tuple[float, float, float]:
        """The levels of pixels: 0 to 255 for bytes, otherwise those that occur."""
        if dtype == np.uint8:
            return 0.0, 255.0, 1.0
        low, high = min(0.0, float(self._low)), float(self._high)
        if max(-low, high) > 2**24:
            raise ValueError(f"{self.source}: pixels from {low:g} to {high:g} are not exact in float32")
        if low == 0 and 128 <= high <= 255:
            high = 255.0
        return low, high, 1.0


def raw_array(
    x: Any, name: str = "array", source: str = "array", extra: Mapping[str, np.ndarray] | None = None
) -> Raw:
    """The rows of an array of shape ``(N, *event)``.

    ``(N,)`` and ``(N, d)``: a table with columns x1 to xd.  Integers ``(N, H, W)`` and four dimensions of
    which the second or the last counts 1, 3 or 4 channels: images, turned to ``(N, C, H, W)``.  Any other:
    a plain array of floats.
    """
    x = as_numpy(x, source)
    extra = extra or {}
    tally = ArrayTally(source)
    tally.add(x)
    tally.check(x.shape)
    if x.ndim <= 2:
        x = x.reshape(len(x), -1)
        if x.dtype.kind not in "iu":
            x = x.astype(np.float32 if x.dtype.kind == "f" and x.dtype.itemsize <= 4 else np.float64)
        columns = dict(zip(default_names(x.shape[1]), x.T))
        return Raw(name=name, source=source, kind="table", columns=columns, extra=extra, named=False)
    images = _images(x, source)
    if images is None:
        x = x.astype(np.float64 if x.dtype == np.float64 else np.float32)
        return Raw(name=name, source=source, kind="array", x=x, extra=extra, named=False)
    levels = tally.levels(x.dtype) if x.dtype.kind in "biu" else None
    return Raw(
        name=name,
        source=source,
        kind="image",
        x=images.astype(np.float32),
        extra=extra,
        named=False,
        levels=levels,
    )


def _images(x: np.ndarray, source: str) -> np.ndarray | None:
    """``x`` as ``(N, C, H, W)``, or None if its shape is not that of images."""
    if x.ndim == 3 and x.dtype.kind in "biu":
        return x[:, None]
    if x.ndim == 4 and x.shape[1] in CHANNELS:
        return x
    if x.ndim == 4 and x.shape[3] in CHANNELS:
        return x.transpose(0, 3, 1, 2)
    if x.dtype.kind in "biu":
        raise ValueError(
            f"{source}: expected images (N, H, W), (N, C, H, W) or (N, H, W, C) with 1, 3 or 4 channels, "
            f"got integers of shape {x.shape}"
        )
    return None


def read_npy(path: Path, max_size: float = MAX_SIZE) -> Raw:
    """One array.  Raises ValueError where the file is damaged, too large, or holds objects."""
    stored = open_npy(path)
    check_array(stored, max_size)
    return raw_array(stored.read(), path.stem, str(path))


def check_array(stored: StoredArray, max_size: float) -> None:
    """Raise ValueError for more than ``max_size`` gigabytes, and for too many columns."""
    check_size(stored.where, stored.memory, max_size)
    if stored.ndim == 2 and len(stored):
        check_columns(stored.where, stored.shape[1], max_size)


def read_npz(path: Path, key: str | None = None, max_size: float = MAX_SIZE) -> Raw:
    """Arrays by name; ``key`` names the data, else a usual name or the only array of rows.

    The other arrays with as many rows can be the condition, by their names.  Raises ValueError where the
    data cannot be told, listing what there is, and for a file that is damaged, too large, or holds objects.
    """
    with open_npz(path) as arrays:
        key = _chosen(path, arrays, key)
        data = arrays.pop(key)
        beside = {
            name: array
            for name, array in arrays.items()
            if data.ndim
            and array.ndim in (1, 2)
            and len(array) == len(data)
            and array.shape[1:] <= (MOST_EXTRA,)
        }
        check_array(data, max_size)
        check_size(str(path), data.memory + sum(array.memory for array in beside.values()), max_size)
        x = data.read()
        extra: dict[str, np.ndarray] = {}
        for name, stored in beside.items():
            array = stored.read()
            parts = [array] if array.ndim == 1 else list(array.T)
            names = [name] if array.ndim == 1 else [f"{name}{i + 1}" for i in range(array.shape[1])]
            extra |= dict(zip(names, map(condition_values, parts)))
    return raw_array(x, path.stem, f"{path}:{key}", extra)


def _chosen(path: Path, arrays: Mapping[str, StoredArray], key: str | None) -> str:
    """The array that is the data."""
    if not arrays:
        raise ValueError(f"{path}: the file holds no arrays")
    if key is not None:
        if key not in arrays:
            raise ValueError(f"{path}: no array {quoted(key)}{hint(key, arrays)}")
        return key
    usual = [name for name in DATA_KEYS if name in arrays]
    deep = [name for name, array in arrays.items() if array.ndim >= 2]
    candidates = usual[:1] or deep or list(arrays)
    if len(candidates) > 1:
        shown = [f"{quoted(name)[1:-1]} {array.shape}" for name, array in list(arrays.items())[:20]]
        more = f", ... ({len(arrays)} in all)" if len(arrays) > 20 else ""
        raise ValueError(
            f"{path}: several arrays could be the data ({', '.join(shown)}{more}); "
            f"name one: {path.name}:{quoted(candidates[0])[1:-1]}"
        )
    return candidates[0]


def condition_values(values: np.ndarray) -> np.ndarray:
    """A column for a condition: integers, floats, or objects (texts, booleans) with None where missing."""
    if values.dtype.kind in "iu":
        return values
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    values = np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
    column = np.empty(len(values), dtype=object)
    column[:] = [None if v is None or v != v else v for v in values.tolist()]
    return plain_numbers(column)
