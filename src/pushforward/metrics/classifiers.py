"""Classifiers of generated samples: support vector machines."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..tensors import takes_arrays
from .base import Metric
from .distances import centred


def _machine(standardise: bool):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    # With gamma = 1 / (d Var[x]) the kernel sees a common scale anyway; columns are rescaled if asked for.
    machine = SVC(kernel="rbf", C=10.0, gamma="scale")
    return make_pipeline(StandardScaler(), machine) if standardise else machine


def _by_column(x: Tensor, standardise: bool | None) -> bool:
    return x.ndim <= 2 if standardise is None else standardise


@takes_arrays
def two_sample_accuracy(
    x: Tensor, y: Tensor, folds: int = 5, seed: int = 0, rows: int = 2000, standardise: bool | None = None
) -> float:
    """How often an RBF support vector machine distinguishes rows of ``x`` from rows of ``y``; chance is 0.5.

    The first ``rows`` rows of each are used, equally many of both.  The accuracy is over all rows, each
    classified by the machine of the fold that was not trained on it.  ``standardise`` scales each column by
    its deviation in the training folds, else all have one scale; None: columns of tables are scaled, those of
    images are not.  Folds are drawn from ``seed``.  Raises ValueError for fewer rows than ``folds``,
    ``folds < 2``, empty samples and events that differ.  Lopez-Paz & Oquab 2017, arXiv 1610.06545, section 3.

    >>> x = torch.arange(40.0).reshape(40, 1)
    >>> two_sample_accuracy(x, x + 100)
    1.0
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_predict  # takes a second

    a, b = centred(x, y)
    n = min(len(a), len(b), rows)
    if not 2 <= folds <= n:
        raise ValueError(f"folds: expected from 2 to {n}, the rows on each side, got {folds}")
    a, b = centred(x[:n], y[:n])
    truth = np.repeat([0, 1], n)
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    machine = _machine(_by_column(x, standardise))
    guess = cross_val_predict(machine, torch.cat([a, b]).numpy(), truth, cv=split)
    return float(np.mean(guess == truth))


class TwoSampleAccuracy(Metric):
    """:func:`two_sample_accuracy`, with fewer folds where there are fewer rows.

    >>> x = torch.arange(40.0).reshape(40, 1)
    >>> TwoSampleAccuracy().measure(x, x + 100)
    1.0
    """

    label, short, unit = "Two-sample accuracy (50 % is chance)", "two-sample accuracy", "share"
    costly = True

    def __init__(self, folds: int = 5):
        self.folds = folds

    def measure(self, x: Tensor, y: Tensor, seed: int = 0) -> float:
        return two_sample_accuracy(x, y, min(self.folds, len(x), len(y)), seed)


@takes_arrays
def label_accuracy(
    train_x: Tensor, train_y: Tensor, x: Tensor, y: Tensor, standardise: bool | None = None
) -> float:
    """Share of rows ``x`` that an RBF support vector machine, trained on real data, gives their label ``y``.

    ``train_x`` ``(N, *event)`` with labels ``train_y`` ``(N,)``, ``x`` ``(n, *event)`` with ``y`` ``(n,)``,
    the class under which they were drawn.  Compare with the accuracy on real held-out rows.  ``standardise``
    as in :func:`two_sample_accuracy`.  Raises ValueError for events or lengths that differ and fewer than two
    labels in training.  Ravuri & Vinyals 2019, arXiv 1905.10887, trained on samples and tested on real rows.

    >>> x = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
    >>> label_accuracy(x, torch.tensor([0, 0, 1, 1]), torch.tensor([[0.2], [4.8]]), torch.tensor([0, 1]))
    1.0
    """
    for name, rows, labels in (("train_y", train_x, train_y), ("y", x, y)):
        if labels.shape != (len(rows),):
            raise ValueError(f"{name}: expected {len(rows)} labels, got shape {tuple(labels.shape)}")
    if len(train_x) == 0:
        raise ValueError(f"train_x: expected at least one row, got shape {tuple(train_x.shape)}")
    if len(train_y.unique()) < 2:
        raise ValueError("train_y: expected at least two labels")
    a, b = centred(train_x, x)
    machine = _machine(_by_column(x, standardise)).fit(a.numpy(), train_y.cpu().numpy())
    return float(np.mean(machine.predict(b.numpy()) == y.cpu().numpy()))
