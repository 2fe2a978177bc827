"""A picture of a program as plain data: what is drawn, before anything is drawn.

Nodes carry all that a reader may ask for (type, line, formula, derivative, the kernel that runs them), edges the types,
clusters the tree of modules and loops. Everything is a string, a number or a tuple of these: `to_dict` gives JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

STAGES = ("traced", "differentiated", "fused", "tape")
PHASES = ("forward", "backward", "update")

# input param buffer state scalar: what the program is given, as in a Graph;  const: an array of the program
# op: computes;  view: sees the same numbers in another shape;  loop: the results of a scan or of another region
# output: what leaves the program;  kernel: an instruction of a tape;  fold: a folded module;  cut: where a path ends
KINDS = (
    "input",
    "param",
    "buffer",
    "state",
    "scalar",
    "const",
    "op",
    "view",
    "loop",
    "output",
    "kernel",
    "fold",
    "cut",
)

# data: a value that is read;  saved: an activation of forward that backward reads;  broken: where no gradient passes
EDGES = ("data", "saved", "broken")


@dataclass(frozen=True)
class Node:
    """Something that makes or holds a value.

    id            the value's name (of several results the first one's); inside of a region `<node>/<name>`;
                  `out:<name>` for what leaves, `i<number>` for an instruction, `cut:<number>` for a cut
    label         what to write on it: the op with its numbers, the last part of a parameter's path
    cluster       the innermost cluster that holds it, "" at the top
    phase         forward, backward or update
    serves        of a backward node the forward value whose gradient it is for, by its name in the traced program;
                  `serves_op` is its op
    operands      what it reads, as text: `%3`, `0.5`
    formula, derivative   from the op's record; the derivative is its rule as Python, or why there is none
    kernel        the kernels that run it, as text; `instructions` are their numbers in the tape
    verdict       of a parameter: learns, dead, frozen, zero, unused, left out, wrong; `because` the code and line
    broken        whether it lies on a path that is cut
    members       of a folded node the ids of all that it stands for
    """

    id: str
    op: str
    label: str
    kind: str = "op"
    type: str = ""
    shape: tuple[str, ...] = ()
    cluster: str = ""
    phase: str = "forward"
    file: str = ""
    line: int = 0
    scope: str = ""
    source: str = ""
    serves: str = ""
    serves_op: str = ""
    attrs: tuple[tuple[str, str], ...] = ()
    operands: tuple[str, ...] = ()
    formula: str = ""
    derivative: str = ""
    kernel: str = ""
    instructions: tuple[int, ...] = ()
    verdict: str = ""
    because: str = ""
    broken: bool = False
    members: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """`gpt.py:52`, or "" where the line is not known."""
        return f"{self.file.replace(chr(92), '/').rpartition('/')[2]}:{self.line}" if self.line else ""


@dataclass(frozen=True)
class Edge:
    """`target` reads what `source` makes, as its operand number `port`. `label` says what the type does not, such as
    `next round`; `count` is how many edges of the picture in full this one stands for."""

    source: str
    target: str
    type: str = ""
    kind: str = "data"
    port: int = 0
    label: str = ""
    broken: bool = False
    count: int = 1


@dataclass(frozen=True)
class Cluster:
    """Nodes that belong together: a module, a loop's body, the update of a parameter.

    id       the path: `blocks.0/attn`;  parent: the cluster around it, "" at the top
    kind     module, loop or update
    repeats  how many equal ones it stands for, and `names` theirs
    """

    id: str
    label: str
    kind: str = "module"
    parent: str = ""
    repeats: int = 1
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cut:
    """A finding of the lint as it is drawn: `node` is the mark, `path` what lies on the way from the parameters to it,
    `targets` the nodes at which the program goes on without gradient."""

    code: str
    severity: str
    message: str
    file: str
    line: int
    source: str
    fix: str
    parameters: tuple[str, ...]
    node: str
    path: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """`stage` is traced, differentiated, fused or tape; nodes stand in the order of the program."""

    name: str
    stage: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    clusters: tuple[Cluster, ...] = ()
    cuts: tuple[Cut, ...] = ()
    sizes: str = ""  # `B, T ≤ 64`

    @cached_property
    def node(self) -> Mapping[str, Node]:
        return {n.id: n for n in self.nodes}

    @cached_property
    def cluster(self) -> Mapping[str, Cluster]:
        return {c.id: c for c in self.clusters}

    def around(self, cluster: str) -> Iterator[Cluster]:
        """The cluster of that id and those around it, innermost first."""
        while cluster:
            yield self.cluster[cluster]
            cluster = self.cluster[cluster].parent

    def level(self, cluster: str) -> int:
        """How many clusters deep the inside of a cluster is."""
        return sum(1 for _ in self.around(cluster))

    def inside(self, cluster: str) -> tuple[Node, ...]:
        """The nodes in a cluster and in those inside it."""
        return tuple(n for n in self.nodes if any(c.id == cluster for c in self.around(n.cluster)))

    def replace(self, **changes: Any) -> Picture:
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `Picture.from_dict` reads it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Picture:
        kinds = {"nodes": Node, "edges": Edge, "clusters": Cluster, "cuts": Cut}
        parts = {name: tuple(kind(**_tuples(d)) for d in data[name]) for name, kind in kinds.items()}
        return cls(data["name"], data["stage"], sizes=data["sizes"], **parts)  # type: ignore[arg-type]


def _tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has lists where the records have tuples."""
    freeze = lambda x: tuple(map(freeze, x)) if isinstance(x, (list, tuple)) else x  # noqa: E731
    return {name: freeze(value) for name, value in data.items()}
