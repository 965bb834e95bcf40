"""The abstract bijection: a map with its log-determinant, forward from the source to the data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..tensors import Condition, takes_arrays


@dataclass(frozen=True)
class Domain:
    """An interval, the same for every element: where a bijection takes or gives values."""

    low: float = -torch.inf
    high: float = torch.inf


REAL_LINE = Domain()


#: Carries points through a part of a bijection, forward or inverse.
Carry = Callable[["Bijection", Tensor, bool], Tensor]


class Bijection(nn.Module, ABC):
    """An invertible map y = f(x) together with log|det df/dx|.

    **Forward runs from the source to the data**, inverse from the data to the source.  What every bijection
    holds to, and ``tests/test_bijection_contract.py`` tests of each:

    - *Shapes.*  ``x`` is ``(B, *event)`` with any B, none too; the image is ``(B, *event_shape(event))``, the
      log-determinant ``(B,)``.  ``event_shape`` and ``inverse_event_shape`` are inverse to each other.
    - *Dtype and device* of image and log-determinant are those of ``x``.  NumPy arrays and DataFrames become
      tensors, of the dtype of the parameters where there are any.
    - *Rows* are independent: an image depends on its own row and condition alone, whatever else is in the
      batch.
    - *Inverse.*  The two directions are inverse to each other up to rounding, and so are their
      log-determinants, for all finite x of ``domain`` and y of ``codomain``, far out in the tails too, and at
      any finite parameters.  Images are finite there and lie in the other interval.
    - *Values that are not finite* are refused or show: the image or the log-determinant is not finite either.
    - *Condition.*  Its rows are those of ``x``.  A bijection without use for it takes and ignores it.
    - *Randomness.*  The same arguments give the same bits, and no global generator is read.  Surjections
      and estimates of log-determinants alone draw, from ``generator``.
    - *Derivatives* of both directions exist, to second order, by x and by parameters.  An inverse that is
      iterated has those of an exact inverse, and raises :class:`InverseFailed` where it does not settle.
    - *State* is in the ``state_dict``; ``torch.func.vmap``, inference mode, copies and ``torch.compile`` of
      the forward direction as a whole graph work.
    """

    #: whether its inverse makes the columns of tables uncorrelated
    whitens: ClassVar[bool] = False
    #: whether it does nothing but put the numbers of an event into another order or shape
    rearranges: ClassVar[bool] = False
    #: where ``forward`` takes its arguments
    domain: Domain = REAL_LINE
    #: where ``forward`` puts its values
    codomain: Domain = REAL_LINE
    #: whether its own inverse draws noise, see :class:`Surjection`
    surjective: bool = False

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        for name in ("forward_and_log_det", "inverse_and_log_det"):
            if name in cls.__dict__:
                setattr(cls, name, takes_arrays(cls.__dict__[name]))

    @abstractmethod
    def forward_and_log_det(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """``(B, *event) -> (y, log|det df/dx|)``, towards the data."""

    @abstractmethod
    def inverse_and_log_det(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """``(B, *event) -> (x, log|det df^-1/dy|)``, towards the source."""

    @property
    def estimates(self) -> bool:
        """Whether its own log-determinants are random estimates at present."""
        return False

    @property
    def stochastic(self) -> bool:
        """Whether a surjection is among its parts, so that its inverse draws noise."""
        return any(getattr(part, "surjective", False) for part in self.modules())

    @property
    def density(self) -> Literal["exact", "bound", "estimate"]:
        """What log-densities through the inverse are: a bound where it draws noise, an estimate where the
        log-determinant of a part is one at present, else exact."""
        if self.stochastic:
            return "bound"
        return "estimate" if any(getattr(part, "estimates", False) for part in self.modules()) else "exact"

    def untouched(self, entries: Tensor, inverse: bool = False) -> Tensor | None:
        """Which of ``entries`` nothing learnt transforms, forward or ``inverse``.

        Booleans ``(n,)``, along the first dimension of an event before and after.  None, as here: all may be
        transformed.
        """
        return None

    def event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the forward image of one event of ``shape``."""
        return tuple(shape)

    def inverse_event_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the inverse image of one event of ``shape``."""
        return tuple(shape)

    def forward(
        self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """The forward image alone."""
        return self.forward_and_log_det(x, condition, generator)[0]

    def inverse(
        self, y: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """The inverse image alone."""
        return self.inverse_and_log_det(y, condition, generator)[0]

    @torch.no_grad()
    @takes_arrays
    def initialise(
        self,
        x: Tensor,
        condition: Condition | None = None,
        generator: torch.Generator | None = None,
        *,
        inverse: bool = True,
    ) -> Tensor:
        """The image of training rows ``x``, after setting from them what a bijection takes from data.

        ``inverse`` says which way the rows go, that of training: the inverse, but forward within an
        :class:`~pushforward.bijections.Inverse`.
        """

        def carry(part: Bijection, x: Tensor, inverse: bool) -> Tensor:
            return part.initialise(x, condition, generator, inverse=inverse)

        image = self.through_parts(x, inverse, carry)
        if image is not None:
            return image
        self.set_from(x, inverse)
        return (self.inverse if inverse else self.forward)(x, condition, generator)

    def through_parts(self, x: Tensor, inverse: bool, carry: Carry) -> Tensor | None:
        """The image of ``x`` by ``carry(part, x, inverse)`` of each part in turn; None without parts."""
        return None

    def set_from(self, x: Tensor, inverse: bool) -> None:
        """Set parameters from training rows that are to go forward or ``inverse``; most have none to set."""


class Surjection(Bijection):
    """A map that draws noise or drops dimensions on the way back; it gives a bound on the log-density.

    A flow that contains one says so (``flow.density == "bound"``).
    """

    surjective = True
