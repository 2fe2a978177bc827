"""One op, one record. `@op` turns a class into an `Op`: everything that is known of the op stands in that class.

    @op
    class tanh:
        '''tanh(x), elementwise'''                              the formula
        def infer(x): return need_float(x)                      type rule: TensorTypes in, TensorType (or several) out
        def ref(x): return np.tanh(x)                           NumPy reference
        def vjp(g, y, x): return (g * (1.0 - y * y),)           cotangents per input, written with ops (None: no path)
        def scalar(s, x): return s.tanh(x)                      elementwise: one scalar expression, fusable

Instead of `scalar` an op has a `body` (made of other ops), or `kind` says how the runtime handles it (`"view"`,
`"reduce"`, `"gemm"`, `"kernel"`, ...). Attributes are keyword arguments. Called on traced values an Op records a node;
called on plain arrays it runs its reference.

An op whose nodes hold graphs names them in `regions = ("forward", "backward")`, gives its results as a tuple, and gets
the regions by the keyword `regions`: `infer` as Graphs, `ref` as functions of arrays (`ir/interp.py`), `body` and `vjp`
as functions of traced values (`Region` in `ir/build.py`). Its `vjp` gets tuples of cotangents and results, with None
where no cotangent came. Where that is not enough the derivative is `derive(builder, node, cotangents, gradients)`,
with `gradients` of passes/autodiff.py for what stands in the regions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .types import DTYPES, TensorType, promote, type_of


@dataclass(frozen=True)
class NoGradient:
    """Why an op has no derivative: `not differentiable`, `zero almost everywhere`, or `not written yet`."""

    kind: str
    reason: str


def no_gradient(reason: str) -> NoGradient:
    return NoGradient("not differentiable", reason)


def zero_gradient(reason: str) -> NoGradient:
    return NoGradient("zero almost everywhere", reason)


def gradient_not_written(reason: str = "") -> NoGradient:
    return NoGradient("not written yet", reason)


_FIELDS = set("infer ref vjp derive scalar body reduce kind promote random generator needs regions why_not".split())


class Op:
    """A record of the registry; see the module docstring. `nondiff` is the NoGradient where there is no `vjp`."""

    def __init__(self, name: str, doc: str, fields: dict[str, Any]) -> None:
        unknown = set(fields) - _FIELDS
        if unknown:
            raise TypeError(f"op {name}: unknown fields {sorted(unknown)}; known are {sorted(_FIELDS)}")
        self.name = name
        self.__name__ = self.__qualname__ = name
        self.__doc__ = doc
        self.formula = doc.strip().splitlines()[0] if doc else ""
        self.infer: Callable[..., Any] = fields["infer"]
        self.ref: Callable[..., Any] | None = fields.get("ref")
        rule: Any = fields.get("vjp")
        self.nondiff: NoGradient | None = rule if isinstance(rule, NoGradient) else None
        self.vjp: Callable[..., tuple] | None = None if isinstance(rule, NoGradient) else rule
        self._why_not: Callable[..., NoGradient | None] | None = fields.get("why_not")
        self.derive: Callable[..., Any] | None = fields.get("derive")
        self.scalar: Callable[..., Any] | None = fields.get("scalar")
        self.body: Callable[..., Any] | None = fields.get("body")
        self.reduce: str | None = fields.get("reduce")  # the combining operation of a reduction: sum, max, min, ...
        self.promote: bool = fields.get("promote", False)  # operands are cast to their common dtype first
        self.random: bool = fields.get("random", False)  # two sites are never merged
        self.generator: bool = fields.get("generator", False)  # its values depend on the index only
        self.regions: tuple[str, ...] = fields.get("regions", ())  # the names of the graphs that a node holds
        self.kind: str = fields.get("kind") or _kind(self)

    def __call__(self, *args: Any, **attrs: Any) -> Any:
        args = tuple(_resolve(a) for a in args)
        for arg in args:
            builder = getattr(arg, "_builder", None)
            if builder is not None:
                regions = attrs.pop("regions", ())
                return builder.emit(self, args, attrs, regions)
        if any(isinstance(a, TensorType) for a in args):
            return self.infer(*args, **attrs)
        return self.eager(*args, **attrs)

    def like(self, ref: Any, **attrs: Any) -> Any:
        """Records an op without operands (a generator) in the graph of `ref`."""
        return ref._builder.emit(self, (), attrs)

    def eager(self, *args: Any, **attrs: Any) -> Any:
        """Runs the op on NumPy arrays and Python numbers; results have the dtypes that the type rule states."""
        arrays: list[Any] = [a if np.isscalar(a) else np.asarray(a) for a in args]
        types = [type_of(a) for a in arrays]
        if self.promote:
            dtype = promote(types)
            types = [t if t.weak else t.with_dtype(dtype) for t in types]
            arrays = [a if t.weak else a.astype(DTYPES[dtype], copy=False) for a, t in zip(arrays, types, strict=True)]
        expected = self.infer(*types, **attrs)
        return self.reference(expected, *arrays, **attrs)

    def reference(self, expected: Any, *arrays: Any, **attrs: Any) -> Any:
        """The NumPy reference, cast to the expected types."""
        if self.regions:
            from .interp import Region

            attrs["regions"] = tuple(r if callable(r) else Region(r, None, {}) for r in attrs["regions"])
        with np.errstate(all="ignore"):
            if self.ref is not None:
                result = self.ref(*arrays, **attrs)
            else:
                assert self.body is not None, self.name
                result = self.body(*arrays, **attrs)
            if isinstance(expected, tuple):
                return tuple(_as(r, t) for r, t in zip(result, expected, strict=True))
            return _as(result, expected)

    def why_not(self, attrs: Mapping[str, Any]) -> NoGradient | None:
        """Why a node with these attributes has no derivative; None where it has one."""
        return self.nondiff if self._why_not is None else self._why_not(**attrs)

    def keywords(self, attrs: Mapping[str, Any], regions: tuple[Any, ...]) -> dict[str, Any]:
        """What the functions of this record take by keyword: the attributes of a node, and the regions that it has."""
        return {**attrs, "regions": regions} if self.regions else dict(attrs)

    @property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.infer)

    def __repr__(self) -> str:
        return f"<op {self.name}: {self.formula}>"


def _as(array: Any, expected: TensorType) -> np.ndarray:
    return np.asarray(array).astype(DTYPES[expected.dtype], copy=False)


def _kind(op: Op) -> str:
    if op.scalar is not None:
        return "elementwise"
    if op.reduce is not None:
        return "reduce"
    if op.body is not None:
        return "composite"
    return "kernel"


def _resolve(arg: Any) -> Any:
    """Parameters and buffers stand for a traced value inside a trace, and for their array outside."""
    resolve = getattr(arg, "_resolve", None)
    return arg if resolve is None else resolve()


OPS: dict[str, Op] = {}


def op(record: type) -> Op:
    """Registers a record class under its name and returns the Op."""
    fields = {k: v for k, v in vars(record).items() if not k.startswith("__")}
    name = record.__name__.rstrip("_")
    if name in OPS:
        raise TypeError(f"op {name} is registered twice")
    OPS[name] = Op(name, record.__doc__ or "", fields)
    return OPS[name]


def all_weak(types: Iterable[TensorType]) -> bool:
    return all(t.weak for t in types)
