"""Small real data sets that come with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from .raw import Raw


def digits() -> Raw:
    """Handwritten digits, ``(1797, 1, 8, 8)`` with whole values 0 to 16; labels 0 to 9.

    Alpaydin & Kaynak 1998, doi 10.24432/C50P49.
    """
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    x = bunch.images[:, None].astype(np.float32)
    return Raw(
        name="digits",
        source="digits",
        kind="image",
        x=x,
        extra={"label": bunch.target.astype(np.int64)},
        levels=(0.0, 16.0, 1.0),
    )


def iris() -> Raw:
    """Lengths and widths in centimetres of 150 flowers of three species (Fisher 1936)."""
    from sklearn.datasets import load_iris

    return _table("iris", load_iris())


def wine() -> Raw:
    """Thirteen measurements of 178 wines of three growers (Aeberhard & Forina 1992)."""
    from sklearn.datasets import load_wine

    return _table("wine", load_wine())


def breast_cancer() -> Raw:
    """Thirty measurements of 569 tumours, malignant or benign (Wolberg et al. 1993)."""
    from sklearn.datasets import load_breast_cancer

    return _table("breast-cancer", load_breast_cancer())


def diabetes() -> Raw:
    """Ten measurements of 442 patients in their own units; ``progression`` a year later as condition.

    Efron et al. 2004, doi 10.1214/009053604000000067.
    """
    from sklearn.datasets import load_diabetes

    bunch: Any = load_diabetes(scaled=False)
    return _table("diabetes", bunch, {"progression": bunch.target.astype(np.float64)})


def _table(name: str, bunch: Any, extra: dict[str, np.ndarray] | None = None) -> Raw:
    columns = {str(key): bunch.data[:, i].astype(np.float64) for i, key in enumerate(bunch.feature_names)}
    if extra is None:
        extra = {"label": np.asarray(bunch.target_names)[bunch.target].astype(object)}
    return Raw(name=name, source=name, kind="table", columns=columns, extra=extra)
