"""Solvers of the equations that a field defines."""

from .ab2 import AB2 as AB2
from .adaptive import Adaptive as Adaptive
from .base import ODE as ODE
from .base import Solution as Solution
from .base import Solver as Solver
from .base import SolverFailure as SolverFailure
from .base import State as State
from .base import StateT as StateT
from .base import Status as Status
from .base import Velocity as Velocity
from .dopri5 import Dopri5 as Dopri5
from .euler import Euler as Euler
from .fixed import FixedStep as FixedStep
from .heun import Heun as Heun
from .midpoint import Midpoint as Midpoint
from .rk4 import RK4 as RK4
from .runge_kutta import RungeKutta as RungeKutta
from .tableau import Tableau as Tableau
from .tsit5 import Tsit5 as Tsit5
