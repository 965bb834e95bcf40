"""Arrays: npy and npz files, NumPy arrays, tensors."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .raw import EXACT, Raw, check_finite
from .tables import default_names, plain_numbers
from .text import hint

#: Keys of an npz file that are taken for the data, in this order.
DATA_KEYS = ("x", "X", "data", "images", "samples", "arr_0")
#: Sizes of a dimension that can be colour channels.
CHANNELS = (1, 3, 4)


def as_numpy(x: Any, source: str) -> np.ndarray:
    """A tensor, list or array as an array of real numbers.

    Raises ValueError for complex numbers, objects, texts, and integers too large to be exact.
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
    if x.dtype.kind in "iu" and x.size and (x.max() > EXACT or x.min() < -EXACT):
        raise ValueError(f"{source}: integers beyond 2^53 are not exact as floating-point numbers")
    return x


def raw_array(
    x: Any, name: str = "array", source: str = "array", extra: Mapping[str, np.ndarray] | None = None
) -> Raw:
    """What an array of shape ``(N, *event)`` holds.

    ``(N,)`` and ``(N, d)``: a table with columns x1 to xd.  Integers ``(N, H, W)`` and four dimensions of
    which the second or the last counts 1, 3 or 4 channels: images, turned to ``(N, C, H, W)``.  Any other:
    a plain array of floats.
    """
    x = as_numpy(x, source)
    extra = extra or {}
    if x.ndim == 0 or 0 in x.shape[1:]:
        raise ValueError(f"{source}: expected an array (rows, ...), got shape {x.shape}")
    if len(x) == 0:
        raise ValueError(f"{source}: the array has no rows")
    whole = x.dtype.kind in "biu"
    check_finite(source, x)
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
    levels = _levels(images, source) if whole else None
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
    """``x`` as ``(N, C, H, W)``, or None where it does not look like images."""
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


def _levels(x: np.ndarray, source: str) -> tuple[float, float, float]:
    """The whole numbers that pixels take: of bytes 0 to 255, of others what occurs."""
    if x.dtype == np.uint8:
        return 0.0, 255.0, 1.0
    low, high = min(0.0, float(x.min())), float(x.max())
    if max(-low, high) > 2**24:
        raise ValueError(f"{source}: pixels from {low:g} to {high:g} are not exact in float32")
    if low == 0 and 128 <= high <= 255:
        high = 255.0
    return low, high, 1.0


def read_npy(path: Path) -> Raw:
    """One array.  Raises ValueError where the file is damaged or holds objects."""
    array = _load(path)
    if isinstance(array, dict):
        raise ValueError(f"{path}: several arrays, not an npy file; call it .npz")
    return raw_array(array, path.stem, str(path))


def read_npz(path: Path, key: str | None = None) -> Raw:
    """Arrays by name; ``key`` says which are the data, else a usual name or the only array of rows.

    The other arrays with as many rows can be the condition, by their names.  Raises ValueError where the
    data cannot be told, listing what there is.
    """
    arrays = _load(path)
    if not isinstance(arrays, dict):
        raise ValueError(f"{path}: one array, not an npz file; call it .npy")
    found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    if not arrays:
        raise ValueError(f"{path}: the file holds no arrays")
    if key is not None and key not in arrays:
        raise ValueError(f"{path}: no array {key!r}{hint(key, arrays)}")
    if key is None:
        usual = [name for name in DATA_KEYS if name in arrays]
        deep = [name for name, array in arrays.items() if array.ndim >= 2]
        candidates = usual[:1] or deep or list(arrays)
        if len(candidates) > 1:
            raise ValueError(
                f"{path}: several arrays could be the data ({found}); name one: {path.name}:{candidates[0]}"
            )
        key = candidates[0]
    x = arrays.pop(key)
    extra: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if x.ndim and array.ndim in (1, 2) and len(array) == len(x):
            parts = [array] if array.ndim == 1 else list(array.T)
            names = [name] if array.ndim == 1 else [f"{name}{i + 1}" for i in range(array.shape[1])]
            extra |= dict(zip(names, map(condition_values, parts)))
    return raw_array(x, path.stem, f"{path}:{key}", extra)


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


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            return dict(content) if isinstance(content, np.lib.npyio.NpzFile) else content
    except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        objects = "Object arrays" in str(error)
        reason = "it holds Python objects" if objects else f"not a readable {path.suffix} file"
        raise ValueError(f"{path}: {reason}") from None
