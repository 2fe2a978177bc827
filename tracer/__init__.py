"""Python model code -> Graph: Tensor, Module, Parameter, trace, ledger, and the op namespace."""

from .activation import *  # noqa: F403
from .arrange import *  # noqa: F403
from .callback import callback
from .checkpoint import checkpoint
from .context import LeakedTensor, NeedsValue, Trace
from .convolution import *  # noqa: F403
from .counting import *  # noqa: F403
from .custom import custom_vjp
from .dynamic import *  # noqa: F403
from .einsum import *  # noqa: F403
from .elementwise import *  # noqa: F403
from .functional import *  # noqa: F403
from .generate import *  # noqa: F403
from .gradmode import no_grad
from .indexing import *  # noqa: F403
from .ledger import Escape, Leaf, Ledger, Reentry, Store, Write
from .loops import scan
from .losses import *  # noqa: F403
from .module import Buffer, Module, Parameter, buffer, freeze
from .neural import *  # noqa: F403
from .normalisation import *  # noqa: F403
from .pooling import *  # noqa: F403
from .random import *  # noqa: F403
from .rng import dropout, dropout1d, dropout2d, generator, initial_seed, manual_seed, next_step, uniform
from .rule_check import RuleError
from .running import *  # noqa: F403
from .sorting import *  # noqa: F403
from .state import TraceError, current_trace
from .structure import Structure
from .tensors import Tensor
from .trace import Spec, Traced, spec, trace
from .update import *  # noqa: F403
