"""Group G: connected, but numerically dead."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from ..evidence import Evidence, Gradient
from ..finding import Finding, Site
from ..rule import rule

NOISE = 1e-8  # float64 rounds 5e8 times more finely than float32: a gradient that shrinks by more than this is rounding
VANISHED = 1e-8  # of the median parameter's gradient, relative to its size: a float32 sum of both forgets the smaller


@rule("GT-G03", "warning", "G", "a gradient that has vanished")
def vanished(e: Evidence) -> Iterator[Finding]:
    """The gradient of some parameters is smaller than that of the others by more than float32 can hold in one number:
    a stack of sigmoids multiplies it by at most 1/4 in each layer, a factor of 1e-9 in front of a loss by that.

    Broken:
        for layer in self.layers:  # thirty of them
            h = gt.sigmoid(layer(h))

    Right:
        for layer in self.layers:
            h = h + gt.relu(layer(self.norm(h)))
    """
    if e.probe is None:
        return
    ratios = {path: g.norm64 / size for path, g, size in _measured(e) if g.norm64 > 0 and size > 0}
    if len(ratios) < 4:
        return
    usual = median(sorted(ratios.values())[len(ratios) // 2 :])  # of the better half: the vanished may be many
    gone = [
        path for path, ratio in ratios.items() if ratio < VANISHED * usual and not is_noise(e.probe.gradients[path])
    ]
    if not gone:
        return
    worst = min(gone, key=ratios.__getitem__)
    param = next(p for p in e.params if p.path == gone[0])
    yield vanished.finding(
        Site.of(param.created),
        f"the gradient of {len(gone)} parameters is {ratios[worst] / usual:.0e} of that of the others",
        "it shrinks on its way back, by every saturated activation and every small factor",
        "residual connections, normalisation, activations that do not saturate; a loss of the size of 1",
        gone,
    )


@rule("GT-G05", "info", "G", "rounding noise in place of a gradient")
def noise(e: Evidence) -> Iterator[Finding]:
    """In float64 the gradient is smaller than in float32 by the ratio of their roundings: it is zero by mathematics,
    and what float32 shows is noise. Adam makes full steps of it.

    Broken:
        self.key = gt.nn.Linear(8, 8)  # softmax does not see the key's bias: its gradient is 0

    Right:
        self.key = gt.nn.Linear(8, 8, bias=False)
    """
    if e.probe is None:
        return
    for path, g, _ in _measured(e):
        if is_noise(g) and not e.is_explained(path, "error", "warning", "info"):
            param = next(p for p in e.params if p.path == path)
            yield noise.finding(
                Site.of(param.created),
                f"the gradient is {g.norm32:.0e} in float32 and {g.norm64:.0e} in float64: zero, but for rounding",
                "the loss does not depend on it, by mathematics",
                "leave it out (bias=False), or gt.freeze it",
                [path],
            )


def is_noise(g: Gradient) -> bool:
    """Whether a gradient is zero by mathematics: exactly, or what is left shrinks with the spacing of the numbers."""
    return (g.norm64 == 0.0 and g.norm32 > 0.0) or 0.0 < g.norm64 < NOISE * g.norm32


def _measured(e: Evidence) -> Iterator[tuple[str, Gradient, float]]:
    sizes = {p.path: float(abs(p.array).max(initial=0.0)) or 1.0 for p in e.params}
    for path, g in e.probe.gradients.items() if e.probe else ():
        yield path, g, sizes.get(path, 1.0)
