"""Python model code -> Graph: Tensor, Module, Parameter, trace, ledger, and the op namespace."""

from .context import LeakedTensor, NeedsValue, Trace
from .convolution import *  # noqa: F403
from .elementwise import *  # noqa: F403
from .functional import *  # noqa: F403
from .generate import *  # noqa: F403
from .gradmode import no_grad
from .ledger import Escape, Leaf, Ledger, Reentry, Store, Write
from .losses import *  # noqa: F403
from .module import Buffer, Module, Parameter, buffer, freeze
from .neural import *  # noqa: F403
from .normalisation import *  # noqa: F403
from .pooling import *  # noqa: F403
from .rng import dropout, generator, initial_seed, manual_seed, next_step, uniform
from .state import TraceError, current_trace
from .structure import Structure
from .tensors import Tensor
from .trace import Spec, Traced, spec, trace
