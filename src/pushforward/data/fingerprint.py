"""Digests of data, to check that a resumed run has the data that it began with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..tensors import pack_condition
from .dataset import Dataset

#: Entries of a schema that may differ while the data are the same: where these lie.
_NAMES = ("name", "source")


def digest(values: Tensor) -> str:
    """Dtype, shape and content in one text.

    >>> digest(torch.zeros(2)) == digest(torch.zeros(2)), digest(torch.zeros(2)) == digest(torch.zeros(3))
    (True, False)
    """
    array = values.detach().cpu().contiguous()
    found = hashlib.blake2b(repr((str(array.dtype), tuple(array.shape))).encode(), digest_size=12)
    if array.numel():
        found.update(array.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def fingerprint(dataset: Dataset) -> dict[str, str]:
    """Digests of all rows by what they hold: every column, the condition's parts, the weights.

    >>> from pushforward.data import load
    >>> sorted(fingerprint(load("moons", rows=100, condition=["label"])))
    ["column 'x1'", "column 'x2'", 'the condition']
    """
    schema, parts = dataset.schema, (dataset.train, dataset.test)
    x = torch.cat([rows.x for rows in parts])
    if schema.columns:
        found = {f"column {name!r}": digest(x[:, i]) for i, name in enumerate(schema.columns)}
    else:
        found = {f"the {schema.kind}s": digest(x)}
    packed: list[Mapping[str, Tensor]] = [pack_condition(rows.condition) for rows in parts]
    for name in packed[0]:
        told = "the condition" if len(packed[0]) == 1 else f"the condition {name.partition('/')[2]!r}"
        found[told] = digest(torch.cat([part[name] for part in packed if name in part]))
    weights = [rows.weight for rows in parts if rows.weight is not None]
    return found | ({"the weights": digest(torch.cat(weights))} if weights else {})


def changed(old: Mapping[str, Any], new: Dataset, then: Mapping[str, Any]) -> list[str]:
    """What differs between data that were, by their fingerprint ``old`` and schema ``then``, and ``new``.

    Only the most informative: added or missing columns, else the number of rows, else other values.
    """
    now = new.schema.to_json()
    told = []
    for key, what in (("columns", "columns"), ("rows_train", "training rows"), ("rows_test", "test rows")):
        before, after = then.get(key), now[key]
        if before != after and key == "columns":
            gone = [name for name in before or () if name not in after]
            came = [name for name in after if name not in (before or ())]
            told += [f"column {name!r} is gone" for name in gone] + [
                f"column {name!r} is new" for name in came
            ]
            told = told or ["the columns are in another order"]
        elif before != after and not told:
            told.append(f"{after:,} {what} instead of {before:,}")
    if told:
        return told
    if then.get("integers") != now["integers"]:
        was, kind = set(then.get("integers") or ()), set(now["integers"])
        told = [f"column {name!r} holds other kinds of numbers" for name in sorted(was ^ kind)]
    if told:
        return told
    fresh = fingerprint(new)
    told = [f"{name} has other values" for name in {**old, **fresh} if old.get(name) != fresh.get(name)]
    entries = [key for key in now if key in then and key not in _NAMES and then[key] != now[key]]
    return told or [f"{key} was {then[key]!r:.80} and is {now[key]!r:.80}" for key in entries]


def of_module(module: torch.nn.Module) -> str:
    """One digest of all weights of a module."""
    found = hashlib.blake2b(digest_size=12)
    for name, value in sorted(module.state_dict().items()):
        found.update(f"{name}{digest(value)}".encode())
    return found.hexdigest()
