"""Group C, continued: what the initial values decide for ever."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ....ir.graph import Node
from ..evidence import Evidence
from ..finding import Finding, Site, short
from ..rule import rule


@rule("GT-C02", "error", "K", "factors that all start at zero")
def stuck_at_zero(e: Evidence) -> Iterator[Finding]:
    """Parameters that are zero and whose gradients are zero as long as they are: each is multiplied by the others.
    No step moves any of them, and what feeds them learns nothing either. One zero factor is fine: it moves in the
    first step, and the other in the second.

    Broken:
        self.a = gt.Parameter(np.zeros((64, 4), "f4"))
        self.b = gt.Parameter(np.zeros((4, 64), "f4"))  # x @ (w + a @ b)

    Right:
        self.a = gt.Parameter(0.1 * rng.standard_normal((64, 4)).astype("f4"))
        self.b = gt.Parameter(np.zeros((4, 64), "f4"))
    """
    for found in e.proofs.stuck:
        moving = [p for p in found.causes if p in e.proofs.trainable]
        frozen = [p for p in found.causes if p not in e.proofs.trainable]
        several, starts = len(found.causes) > 1, ("starts", "both start", "all start")[min(len(found.causes), 3) - 1]
        fact = f"{short(found.causes)} {starts} at 0, and can never move"
        if not moving:
            fact = (
                f"{short(frozen)} {'are' if several else 'is'} frozen at 0, and what is multiplied with it cannot learn"
            )
        yield stuck_at_zero.finding(
            _birth(e, moving or frozen, found.node),
            fact,
            "as long as they are 0 so are their gradients" if moving else "the factor is 0 in every step",
            f"start {(moving or frozen)[0]} with random numbers{', or another of them' if several else ''}",
            found.killed,
            severity="error" if moving else "warning",
        )


@rule("GT-C10", "warning", "K", "units that start alike and stay alike")
def alike(e: Evidence) -> Iterator[Finding]:
    """Two consecutive weights start with equal rows and columns: all hidden units compute the same and get the same
    gradient, in every step. Biases, gains, and one constant weight beside a random one are fine.

    Broken:
        self.w1 = gt.Parameter(np.full((64, 128), 0.1, "f4"))
        self.w2 = gt.Parameter(np.full((128, 10), 0.1, "f4"))

    Right:
        self.w1 = gt.Parameter(0.1 * rng.standard_normal((64, 128)).astype("f4"))
    """
    dead = {p for found in e.proofs.stuck for p in found.killed}
    for units in e.proofs.alike:
        names = [p for p in units.parameters if p not in dead]
        if len(names) < 2:
            continue
        yield alike.finding(
            _birth(e, names, units.node),
            f"the {units.count} units between {short(names)} start alike and stay alike",
            "they compute the same from the first step to the last: as if there were one",
            f"start {names[0]} with random numbers",
            names,
        )


def _birth(e: Evidence, names: Iterable[str], node: Node) -> Site:
    """The line that made the first of these parameters, or else where they are multiplied."""
    wanted = set(names)
    made = [p.created for p in e.params if p.path in wanted and p.created is not None]
    first = [where for where in made if where.file == made[0].file]
    return Site.of(min(first, key=lambda where: where.line) if first else node.location)
