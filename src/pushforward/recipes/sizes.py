"""Default sizes of models and lengths of trainings, from the numbers of rows and columns, for all methods."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data import Schema
from ..data.noise import SMALL

#: Training rows and validation rows at most, of what is not a small table.
VALIDATION_SHARE, VALIDATION_ROWS = 0.1, 2000
#: Validations in a run, after so many of which without a better one it stops.
VALIDATIONS, PATIENCE = 25, 10
#: Cross-validation folds of small tables, and fewest rows to fit baselines to and to divide into folds.
FOLDS, FEWEST = 5, 20
#: Settings of the model and of the optimisation that :func:`by_size` chooses whatever the data are.
CHOSEN = ("network", "times", "pairs", "reuse"), ("steps", "batch", "lr", "ema", "weight_decay", "patience")


def is_small(schema: Schema) -> bool:
    """Whether the data are a table of so few rows that baselines are hard to beat."""
    return schema.kind == "table" and FEWEST <= schema.rows_train < SMALL


def by_size(schema: Schema) -> dict[str, Any]:
    """Default settings for the training rows of ``schema``.

    Steps grow with the square root of the number of rows.
    """
    n = max(1, schema.rows_train)
    share = min(VALIDATION_SHARE, VALIDATION_ROWS / n)
    common: dict[str, Any] = {
        "patience": PATIENCE,
        "folds": 0,
        "validation": share if share * n >= 5 else 0.0,
        "weight_decay": 0.0,
        "jitter": 0.0,
        "times": "uniform",
        "pairs": 50_000,
    }
    if schema.kind == "image":
        sized = {"network": "unet", "steps": 3_000, "batch": 64, "lr": 2e-3, "reuse": 4, "pairs": 10_000}
        # the first steps of a short run should not linger in the average
        return {**common, **sized, "ema": 0.999}
    if schema.kind in ("array", "text"):
        sized = {"network": "resmlp", "steps": 8_000, "batch": 256, "lr": 1e-3, "reuse": 16, "pairs": 20_000}
        return {**common, **sized, "ema": 0.999}
    table = {
        **common,
        "network": "resmlp,width=128,depth=3",
        "steps": int(np.clip(80 * n**0.5, 100, 8_000)),
        "batch": 512,
        "lr": 2e-3,
        "times": "late,power=3",
        "threads": 1,
        "reuse": 32,
        "ema": 0.999,
    }
    if not is_small(schema):
        return table
    return {
        **table,
        # features that draw sharp edges are learnt by heart where rows are few
        "network": "resmlp,width=64,depth=2,frequencies=0",
        "steps": int(np.clip(20 * n**0.5, 100, 8_000)),
        "batch": min(n, 128),
        "times": "late,power=2",
        "weight_decay": 0.01,
        "ema": 0.99,
        "folds": FOLDS,
        "validation": 0.0,
        "pairs": 10_000,
    }
