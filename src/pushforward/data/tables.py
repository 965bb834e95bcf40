"""Tables in memory: DataFrames and their columns."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from .raw import Raw, repeated_names

if TYPE_CHECKING:
    import pandas as pd


def default_names(d: int) -> tuple[str, ...]:
    """Names of columns that have none: x1 to xd."""
    return tuple(f"x{i + 1}" for i in range(d))


def read_frame(frame: pd.DataFrame, name: str = "DataFrame", source: str = "DataFrame") -> Raw:
    """A pandas DataFrame; its index is no column."""
    names = [str(column) for column in frame.columns]
    repeated = repeated_names(source, names)
    columns = {key: series_values(frame.iloc[:, names.index(key)]) for key in names}
    return Raw(name=name, source=source, kind="table", columns=columns, repeated=repeated)


def series_values(series: pd.Series) -> np.ndarray:
    """A column of a DataFrame as integers, as float64, or as objects (texts, None where missing)."""
    from pandas.api import types

    if types.is_numeric_dtype(series.dtype) and not (
        types.is_bool_dtype(series.dtype) or types.is_complex_dtype(series.dtype)
    ):
        if types.is_integer_dtype(series.dtype) and not series.hasnans:
            return series.to_numpy(
                dtype=np.int64 if types.is_signed_integer_dtype(series.dtype) else np.uint64
            )
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    missing = series.isna().to_numpy()
    values = np.empty(len(series), dtype=object)
    values[:] = [None if gone else _plain(v) for v, gone in zip(series.tolist(), missing)]
    return plain_numbers(values)


def plain_numbers(values: np.ndarray) -> np.ndarray:
    """A column of Python objects as integers or floats where all are such numbers."""
    for kind, dtype in ((Integral, np.int64), (Real, np.float64)):
        if len(values) and all(isinstance(v, kind) and not isinstance(v, bool) for v in values):
            try:
                return values.astype(dtype)
            except OverflowError:  # beyond 64 bits
                continue
    return values


def _plain(value: Any) -> Any:
    """Numbers in a column of objects stay numbers; everything else is known by its text."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return value
    return str(value)
