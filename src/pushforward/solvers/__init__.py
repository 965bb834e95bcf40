"""Solvers of the equations that a field defines."""

from .ab2 import AB2 as AB2
from .adaptive import Adaptive as Adaptive
from .adjoint import Adjoint as Adjoint
from .base import Solver as Solver
from .base import Task as Task
from .base import named_kind as named_kind
from .bosh3 import Bosh3 as Bosh3
from .checkpointed import Checkpointed as Checkpointed
from .ddim import DDIM as DDIM
from .denoise import Denoiser as Denoiser
from .denoise import Inside as Inside
from .denoise import Level as Level
from .denoise import Step as Step
from .denoise import Work as Work
from .dopri5 import Dopri5 as Dopri5
from .dopri8 import Dopri8 as Dopri8
from .dpm import DPMSolver as DPMSolver
from .dpm import DPMSolverSDE as DPMSolverSDE
from .edm import EDMStochastic as EDMStochastic
from .euler import Euler as Euler
from .euler_maruyama import EulerMaruyama as EulerMaruyama
from .fitted import Fitted as Fitted
from .fixed import FixedStep as FixedStep
from .grid import Grid as Grid
from .grid import Gridded as Gridded
from .grids import GRIDS as GRIDS
from .heun import Heun as Heun
from .integrals import WithIntegrals as WithIntegrals
from .jump_euler import JumpEuler as JumpEuler
from .jumps import JumpSolver as JumpSolver
from .midpoint import Midpoint as Midpoint
from .problems import ODE as ODE
from .problems import SDE as SDE
from .problems import Denoise as Denoise
from .problems import Diffusion as Diffusion
from .problems import Jump as Jump
from .problems import NoiseSchedule as NoiseSchedule
from .problems import Problem as Problem
from .problems import Redraws as Redraws
from .problems import State as State
from .problems import StateT as StateT
from .problems import Velocity as Velocity
from .rk4 import RK4 as RK4
from .row_wise import RowWise as RowWise
from .runge_kutta import RungeKutta as RungeKutta
from .sde import StochasticSolver as StochasticSolver
from .sde import level as level
from .single_jumps import SingleJumps as SingleJumps
from .solution import Solution as Solution
from .solution import SolverFailure as SolverFailure
from .solution import Status as Status
from .stochastic_heun import StochasticHeun as StochasticHeun
from .tableau import Tableau as Tableau
from .tableau import TableauSolver as TableauSolver
from .tau_leaping import TauLeaping as TauLeaping
from .tsit5 import Tsit5 as Tsit5
from .unipc import UniPC as UniPC

__all__ = [
    "AB2",
    "Adaptive",
    "DDIM",
    "DPMSolver",
    "DPMSolverSDE",
    "Denoise",
    "Denoiser",
    "Adjoint",
    "Bosh3",
    "Checkpointed",
    "Diffusion",
    "Dopri5",
    "Dopri8",
    "EDMStochastic",
    "Euler",
    "EulerMaruyama",
    "Fitted",
    "FixedStep",
    "GRIDS",
    "Grid",
    "Gridded",
    "Heun",
    "Inside",
    "Jump",
    "JumpEuler",
    "JumpSolver",
    "Level",
    "Midpoint",
    "NoiseSchedule",
    "ODE",
    "Problem",
    "RK4",
    "Redraws",
    "RowWise",
    "RungeKutta",
    "SDE",
    "SingleJumps",
    "Solution",
    "Solver",
    "SolverFailure",
    "State",
    "StateT",
    "Status",
    "Step",
    "StochasticHeun",
    "StochasticSolver",
    "Tableau",
    "TableauSolver",
    "Task",
    "TauLeaping",
    "Tsit5",
    "UniPC",
    "Velocity",
    "WithIntegrals",
    "Work",
    "level",
    "named_kind",
]
