"""Pictures of programs: from a Graph or a Tape to plain data, and from that to DOT.

picture.py   the records that a picture consists of
graph.py     Graph -> Picture                tape.py   Tape -> Picture, and which instruction runs which node
verdicts.py  Picture, lint report -> Picture with the verdicts on parameters, and the broken paths
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..ir.crossings import Reentry
from ..ir.graph import Graph
from ..ir.tape import Tape
from ..passes.lint import Report
from .graph import picture_of_graph, with_served_ops
from .picture import PHASES, STAGES, Cluster, Cut, Edge, Node, Picture
from .tape import picture_of_tape, with_kernels
from .verdicts import with_report


def picture(
    stages: Mapping[str, Graph | Tape],
    stage: str = "traced",
    report: Report | None = None,
    reentries: Sequence[Reentry] = (),
) -> Picture:
    """The picture of a program at one of its stages, with all that is known of it.

    stages     the program by stage: traced, differentiated, fused, tape. With the last two there, nodes name the
               kernels that run them; of a program that does not compile `traced` is enough
    report     what the lint says of it
    reentries  where what had left it came back as a constant: the ledger of its trace has them
    """
    if stage not in stages:
        raise ValueError(f"stage is one of {', '.join(stages)}, not {stage!r}")
    program, fused, tape = stages[stage], stages.get("fused"), stages.get("tape")
    if isinstance(program, Tape):
        drawn = picture_of_tape(program)
    else:
        drawn = picture_of_graph(program, stage, reentries if stage in ("traced", "differentiated") else ())
        if isinstance(fused, Graph) and isinstance(tape, Tape):
            drawn = with_kernels(drawn, fused, tape)
    traced = stages.get("traced")
    if isinstance(traced, Graph):
        drawn = with_served_ops(drawn, traced)
    return drawn if report is None else with_report(drawn, report)


__all__ = [
    "PHASES",
    "STAGES",
    "Cluster",
    "Cut",
    "Edge",
    "Node",
    "Picture",
    "picture",
    "picture_of_graph",
    "picture_of_tape",
    "with_kernels",
    "with_report",
]
