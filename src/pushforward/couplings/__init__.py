"""Rules that pair source rows with target rows."""

from .base import Coupling as Coupling
from .base import Pairing as Pairing
from .base import Rows as Rows
from .base import as_rows as as_rows
from .independent import Independent as Independent
from .minibatch_ot import MinibatchOT as MinibatchOT
