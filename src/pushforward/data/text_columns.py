"""Columns of texts as numbers, where they are such."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from .raw import MISSING

if TYPE_CHECKING:
    import pyarrow as pa


def parsed(texts: pa.ChunkedArray, kind: str | None) -> np.ndarray:
    """Texts as ``i`` integers, ``f`` floats or ``O`` objects; without a kind by what they are."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    texts = pc.utf8_trim_whitespace(texts)
    missing = pc.is_in(texts, value_set=_array_of_texts(*MISSING))
    absent = pc.sum(missing).as_py() or 0
    try:
        if kind != "O" and (kind == "f" or absent < len(texts)):
            filled = pc.if_else(missing, _array_of_texts("nan")[0], texts) if absent else texts
            floats = _numbers(pc.cast(filled, pa.float64()), np.float64)
            if kind == "f" or absent:
                return floats
            try:
                return _numbers(pc.cast(texts, pa.int64()), np.int64)
            except pa.ArrowInvalid:
                if kind is None:
                    return floats
                raise
    except pa.ArrowInvalid:
        if kind is not None:
            raise ValueError("the file changed while it was read") from None
    values = np.empty(len(texts), dtype=object)
    nothing = pa.nulls(1, pa.string())[0]
    values[:] = pc.if_else(pc.equal(texts, _array_of_texts("")[0]), nothing, texts).to_pylist()
    return values


# pyarrow's own ways from Python's values and to NumPy's arrays load pandas, which takes half a second.


@functools.cache
def _array_of_texts(*texts: str) -> pa.Array:
    import pyarrow as pa

    parts = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, parts)]).astype(np.int32)
    return pa.StringArray.from_buffers(len(parts), pa.py_buffer(ends), pa.py_buffer(b"".join(parts)))


def _numbers(column: pa.ChunkedArray, dtype: type[np.number[Any]]) -> np.ndarray:
    """Numbers without a missing one."""
    parts = [np.frombuffer(c.buffers()[1], dtype, len(c) + c.offset)[c.offset :] for c in column.chunks]
    return np.concatenate(parts)
