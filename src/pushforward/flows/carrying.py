"""What every method that carries points does first: make points and conditions what the flow takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

from ..inputs import check_rows

#: Where a flow's points lie.
Space = Literal["source", "data"]
#: The methods that carry points, and where those lie that they take.
CARRIES: dict[str, Space] = {
    "push": "source",
    "push_and_log_det": "source",
    "pull": "data",
    "pull_and_log_det": "data",
}


def checked(method: Callable[..., Any], space: Space) -> Callable[..., Any]:
    """``method`` with its points and conditions made what the flow takes, see :meth:`Flow.rows`."""

    @functools.wraps(method)
    def carries(self: Any, x: Any, condition: Any = None, *rest: Any, **options: Any) -> Any:
        x = check_rows(self.rows(x, space), self.space_shape(space), "x0" if space == "source" else "x")
        return method(self, x, self.conditions(condition), *rest, **options)

    return carries
