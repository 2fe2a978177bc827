"""The probe (layer G): the gradient as numbers, in float64 and float32, held against finite differences that run the
user's Python, and followed through two optimizer steps. Where the program has no loss, its outputs are weighted by
random numbers: their plain sum is constant behind a softmax or a LayerNorm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..ir.graph import Graph, Node, Value
from ..ir.interp import Interpreter
from ..ir.location import Location
from ..ir.replay import first_spoiled
from ..ir.types import DTYPES
from ..models.optim import Optimizer
from ..passes.autodiff import differentiate
from ..passes.lint.evidence import Gradient, Probe
from ..tracer import rng
from ..tracer.loops import wider_carries
from ..tracer.module import Parameter
from ..tracer.state import running
from ..tracer.structure import flatten
from ..tracer.trace import Traced, is_array
from .subject import Subject
from .suspects import wrong_rules

BATCH, LENGTH = 2, 8  # the small shape: sizes of the first axis, and of a second one that several inputs share
STEP = 1e-5  # of the finite difference, relative to the size of a parameter; the error is of order STEP**2 = 1e-10
AGREES = 1e-6  # relative difference of the two derivatives below which they agree

Arrays = dict[str, np.ndarray]


def probe(subject: Subject, traced: Traced, trainable: list[str]) -> Probe:
    """Measures the gradients of the parameters in `trainable`; what stops it is told as `refusal`."""
    if not trainable:
        return Probe(refusal="no parameter gets a gradient")
    small, found = _small(subject, traced), Probe()
    for each in [small] if small is subject else [small, subject]:  # indices may need the sizes of the example
        with subject.untouched(traced), np.errstate(all="ignore"):
            try:
                return _Run(each, trainable).probe()
            except Exception as error:  # the user's Python may end in any way
                found = Probe(refusal=f"{type(error).__name__}: {error}")
    return found


# a small shape -------------------------------------------------------------------------------------------------------
def _small(subject: Subject, traced: Traced) -> Subject:
    """The subject with the smallest of some shapes that its Python takes."""
    for length in (LENGTH, None):
        smaller = replace(subject, example=_cut(subject, BATCH, length))
        if all(np.shape(a) == np.shape(b) for (_, a), (_, b) in zip(smaller.arrays, subject.arrays, strict=True)):
            continue
        with subject.untouched(traced):
            try:
                again = smaller.trace()
            except Exception:
                continue
        if [n.op for n in again.graph.nodes] == [n.op for n in traced.graph.nodes]:
            return smaller
    return subject


def _cut(subject: Subject, batch: int, length: int | None) -> tuple[Any, ...]:
    arrays = [np.asarray(a) for _, a in subject.arrays]
    ids = {a.shape[1] for a in arrays if a.ndim >= 2 and a.dtype.kind in "iu"}

    def cut(example: Any) -> np.ndarray:
        a = np.asarray(example)
        a = a[:batch] if a.ndim else a
        return a[:, :length] if length is not None and a.ndim >= 2 and a.shape[1] in ids else a

    return subject.changed(cut)


# the run -------------------------------------------------------------------------------------------------------------
@dataclass
class _Measured:
    """One pass over a program with numbers."""

    graph: Graph
    loss: float
    gradients: Arrays
    values: Arrays
    traced: Graph
    inputs: Arrays
    spoiled: Location | None  # where the gradients of a finite loss become NaN or infinite


class _Run:
    def __init__(self, subject: Subject, trainable: list[str]) -> None:
        self.subject = subject
        self.trainable = trainable
        self.weights: list[np.ndarray] = []  # of the outputs, where there is no loss
        self.parameters: Mapping[str, Parameter] = {}
        self.retraced = False  # whether differences are taken of traced programs

    def probe(self) -> Probe:
        single = self.measured("f32")
        with _in_float64(self.subject, self.subject.trace()):
            exact = self.measured("f64")
            wanted = [p for p in self.trainable if p in exact.gradients]
            errors = self.errors(exact, wanted)
            later, moved = self.after_steps(exact, wanted)
        found = {}
        for path in wanted:
            g64, g32 = exact.gradients[path], single.gradients.get(path)
            g32 = np.zeros_like(g64) if g32 is None else g32.astype(np.float64)
            measured = (errors.get(path, 0.0), later.get(path, 0.0), moved.get(path, 0.0))
            found[path] = Gradient(_norm(g64), _norm(g32), _norm(g64 - g32), *measured)
        wrong = wrong_rules(exact.traced, {**exact.inputs, **exact.values}) if any(errors.values()) else []
        return Probe(found, exact.values, wrong=wrong, spoiled=exact.spoiled or single.spoiled)

    def measured(self, kind: str) -> _Measured:
        """Loss, gradients and all values of the program as it is now, by the interpreter."""
        traced = self.subject.trace()
        self.parameters = self.subject.parameters(traced)
        graph, root = self.scalar_program(traced)
        full = differentiate(graph, root, [p for p in self.trainable if any(v.name == p for v in graph.inputs)])
        values: Arrays = {}
        own = set(full.nodes)

        def watch(node: Node, operands: list[Any], results: tuple[np.ndarray, ...]) -> None:
            if node in own:  # names inside of a region are its own
                values.update((v.name, r) for v, r in zip(node.outputs, results, strict=True))

        bound = self.bound(traced, kind)
        outputs, _ = Interpreter(full, bound, watch).run()
        grads = {k.removeprefix("grad:"): v for k, v in outputs.items() if k.startswith("grad:")}
        known = {v.name for n in traced.graph.nodes for v in n.outputs}
        kept = {k: v for k, v in values.items() if k in known}
        loss = float(outputs[root])
        spoiled = None
        if np.isfinite(loss) and not all(np.isfinite(g).all() for g in grads.values()):
            first = first_spoiled(full, bound)
            spoiled = first[0].location if first is not None else None
        return _Measured(full, loss, grads, kept, traced.graph, bound, spoiled)

    def bound(self, traced: Traced, kind: str) -> Arrays:
        """The inputs of the scalar program."""
        bound = traced.bind(*self.example(kind), seed=rng.initial_seed(), step=rng._eager.step)
        for i, w in enumerate(self.weights):
            bound[f"weight.{i}"] = w.astype(DTYPES["f64" if kind == "f64" else "f32"])
        return bound

    def scalar_program(self, traced: Traced) -> tuple[Graph, str]:
        """The graph with one scalar to differentiate: the loss, or the weighted sum of all float outputs."""
        from ..ir.build import Builder
        from ..ir.dims import dim_scope
        from ..ir.op import OPS

        outputs = traced.graph.outputs
        if len(outputs) == 1 and outputs[0][1].type.shape == () and outputs[0][1].type.is_float:
            return traced.graph, outputs[0][0]
        builder = Builder.extending(traced.graph)
        total: Any = None
        generator, self.weights = np.random.default_rng(7), []
        with dim_scope(builder.scope):
            for _, value in outputs:
                if not isinstance(value, Value) or not value.type.is_float:
                    continue
                weight = builder.input(f"weight.{len(self.weights)}", value.type)
                self.weights.append(generator.standard_normal([int(d) for d in value.type.shape]))
                part = builder.wrap(value) * weight
                part = OPS["sum"](part, axes=tuple(range(part.ndim)), keepdims=False)
                total = part if total is None else total + part
        if total is None:
            raise TypeError("the program has no float result")
        return builder.graph([("probe", total)]), "probe"

    def example(self, kind: str) -> tuple[Any, ...]:
        """The arrays of the call, floats in the precision of the run."""
        if kind != "f64":
            return self.subject.example
        return self.subject.changed(lambda a: np.asarray(a, np.float64) if np.asarray(a).dtype.kind == "f" else a)

    # finite differences -----------------------------------------------------------------------------------------------
    def scalar(self) -> float:
        """The scalar, by the user's Python: on arrays, or where it needs what arrays do not have (`x.numpy()`), traced
        once more, so that what leaves the program is computed anew."""
        if not self.retraced:
            try:
                return self.eager()
            except Exception:  # the user's Python may end in any way
                self.retraced = True
        traced = self.subject.trace()
        graph, root = self.scalar_program(traced)
        outputs, _ = Interpreter(graph, self.bound(traced, "f64")).run()
        return float(outputs[root])

    def eager(self) -> float:
        """The scalar, by the user's Python on arrays; random numbers are those of the traced program."""
        state, numpy_state = (rng._eager.step, rng._eager.site), np.random.get_state()
        rng._eager.site = 0
        buffers = [(b, b.array.copy()) for b in (self.subject.model.buffers() if self.subject.model else [])]
        model = self.subject.model
        before = [(m, m.training) for m in model.modules()] if model is not None else []
        if model is not None:
            model.train()
        try:
            with running(None):
                result = self.subject.function(*self.example("f64"))
        finally:
            rng._eager.step, rng._eager.site = state
            np.random.set_state(numpy_state)
            for b, array in buffers:
                b.array[...] = array
            for m, training in before:
                object.__setattr__(m, "training", training)
        _, leaves = flatten(result, "out", is_array)
        arrays = [np.asarray(x) for _, x in leaves if np.asarray(x).dtype.kind == "f"]
        if not self.weights:
            return float(arrays[0])
        return float(sum(np.sum(a * w) for a, w in zip(arrays, self.weights, strict=True)))

    def errors(self, exact: _Measured, wanted: list[str]) -> dict[str, float]:
        """Relative errors by parameter. One joint direction, in which every parameter has the same share, is asked
        first: where it agrees, all do."""
        generator = np.random.default_rng(11)
        drawn = {path: generator.standard_normal(self.parameters[path].shape) for path in wanted}
        directions = {path: d / (_norm(d) or 1.0) for path, d in drawn.items()}
        if self.relative_error(exact, directions) <= AGREES:
            return dict.fromkeys(wanted, 0.0)
        return {path: self.relative_error(exact, {path: directions[path]}) for path in wanted}

    def relative_error(self, exact: _Measured, directions: Arrays) -> float:
        """|finite difference - gradient| along a direction, relative to the larger of the sums of magnitudes; 0 where
        both are below what a difference of losses can tell."""
        moved = self.difference(directions)
        told = sum(float(np.sum(exact.gradients[p] * d)) for p, d in directions.items())
        terms = sum(float(np.sum(np.abs(exact.gradients[p] * d))) for p, d in directions.items())
        floor = 1e-14 * max(1.0, abs(exact.loss)) / STEP * 100
        miss = abs(moved - told)
        if not np.isfinite(miss):
            return float("inf")
        return 0.0 if miss <= floor else miss / max(abs(moved), terms, floor)

    def difference(self, directions: Arrays) -> float:
        """The derivative of the scalar along `directions`: central differences at two steps, extrapolated."""
        arrays = {p: self.parameters[p].array for p in directions}
        before = {p: a.copy() for p, a in arrays.items()}
        sizes = {p: STEP * max(float(np.abs(b).max(initial=0.0)), 1e-2) for p, b in before.items()}
        step = max(sizes.values())

        def at(scale: float) -> float:
            for p, a in arrays.items():
                a[...] = before[p] + scale * directions[p]
            return self.scalar()

        try:
            wide = (at(step) - at(-step)) / (2 * step)
            near = (at(step / 2) - at(-step / 2)) / step
        finally:
            for p, a in arrays.items():
                a[...] = before[p]
        return (4 * near - wide) / 3

    # optimizer steps --------------------------------------------------------------------------------------------------
    def after_steps(self, exact: _Measured, wanted: list[str]) -> tuple[dict[str, float], dict[str, float]]:
        """The norm of each gradient after one step, and how far two steps move each parameter."""
        optimizer = self.subject.optimizer or _Plain()
        start = {p: self.parameters[p].array.copy() for p in wanted}
        states = {p: optimizer.init(start[p]) for p in wanted}
        gradients, later = exact.gradients, {}
        for number in (1, 2):
            for p in wanted:
                group = _group(optimizer, self.parameters[p])
                if group is None or p not in gradients:  # Python took another way this time
                    continue
                rule = optimizer.with_options(optimizer.groups[group][1])
                scalars = {"lr": optimizer.learning_rate(number, group), "step": float(number)}
                new, states[p] = rule.update(self.parameters[p].array, gradients[p], states[p], scalars)
                self.parameters[p].array[...] = new
            if number == 1:
                gradients = self.measured("f64").gradients
                later = {p: _norm(g) for p, g in gradients.items()}
        moved = {p: _norm(self.parameters[p].array - start[p]) / (_norm(start[p]) or 1.0) for p in wanted}
        return later, moved


class _Plain(Optimizer):
    """Gradient descent, where the lint was given no optimizer."""

    def __init__(self) -> None:
        super().__init__(None, lr=1e-2)

    def update(self, param: Any, grad: Any, state: Any, scalars: Mapping[str, Any]) -> tuple[Any, Any]:
        return param - scalars["lr"] * grad, {}


def _group(optimizer: Optimizer, parameter: Parameter) -> int | None:
    for i, (members, _) in enumerate(optimizer.groups):
        if members is None or any(parameter is m for m in members):
            return i
    return None


@contextmanager
def _in_float64(subject: Subject, traced: Traced) -> Iterator[None]:
    """Parameters and buffers as float64 copies; `Subject.untouched` puts the arrays themselves back."""
    stored = [s for s in subject.stored(traced).values() if s.array.dtype.kind == "f"]
    before = [(s, s._array) for s in stored]
    for s in stored:
        s._array = s._array.astype(np.float64)
    try:
        with wider_carries():
            yield
    finally:
        for s, array in before:
            s._array = array


def _norm(array: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(array, np.float64)))


__all__ = ["probe"]
