"""What becomes of an op when its batch is cut into slices: the calculus under passes/microbatch.py.

A value of the whole batch has one of four forms. It is the SAME for every slice (weights, masks); the batch lies ALONG
an axis of it, so that slices of it are what slices of the operands give; it is the SUM of what the
slices give (a sum over the batch, a weight's gradient); or it is known LATE, once all slices are through.

A rule says for one op from the forms of its operands where each operand has to be cut, and the form of its results. It
raises `Mixed` where elements of the batch meet in another way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Union

from ..ir.dims import DimLike, Shape, divide, identical, product
from ..ir.graph import Node
from ..ir.op import OPS
from ..ir.types import TensorType, is_one


class Role(Enum):
    """The forms of a value that has no axis to cut."""

    SAME = "the same for every slice"
    SUM = "a sum over the slices"
    LATE = "known after the last slice"


SAME, SUM, LATE = Role.SAME, Role.SUM, Role.LATE


@dataclass(frozen=True)
class Along:
    """The batch lies along `axis`, whose size is outer * batch * inner, in this order of elements."""

    axis: int
    inner: DimLike = 1
    outer: DimLike = 1

    def at(self, axis: int) -> Along:
        """The same along another axis."""
        return replace(self, axis=axis)


Form = Union[Role, Along]
Cuts = tuple[Union[Along, None], ...]  # of the operands: where each is cut into slices, None where it is taken whole
Types = Sequence[TensorType]
Rule = Callable[[Node, Types, Sequence[Form]], tuple[Cuts, Form]]


class Mixed(Exception):
    """An op in which elements of the batch meet otherwise than in a sum: says how."""


def flow(node: Node, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    """The cuts of the operands and the form of the results of `node`, some of whose operands lie along the batch and
    the others are the same for every slice. Raises Mixed."""
    types = [o.type for o in node.inputs]
    record = OPS[node.op]
    if record.kind == "elementwise":
        return _elementwise(node, types, forms)
    if record.reduce is not None:
        return _reduce(node, types, forms)
    rule = RULES.get(node.op)
    if rule is None:
        raise Mixed("is not known to work on each of its elements alone")
    return rule(node, types, forms)


def is_linear(node: Node, forms: Sequence[Form]) -> bool:
    """Whether an op on sums over the slices is the sum of the op on what each slice gives."""
    if not all(form is SUM for form in forms):
        return False
    if node.op == "cast":
        return node.output.type.is_float
    if node.op == "unslice":
        return node.attrs.get("value", 0) == 0
    return node.op in LINEAR


LINEAR = ("add", "sub", "neg", "sum", "reshape", "permute", "broadcast_to", "slice", "concat", "weave")


def sliced_attrs(node: Node, form: Form, slices: int) -> dict:
    """The attributes of `node` where it works on a slice of what lies `form`."""
    attrs = dict(node.attrs)
    key = "size" if node.op == "slice" else "shape"
    if isinstance(form, Along) and key in attrs and node.op != "constant":
        attrs[key] = sliced_shape(attrs[key], form, slices)
    return attrs


def sliced_shape(shape: Shape, place: Along, slices: int) -> Shape:
    """The shape of one of so many slices."""
    part = divide(shape[place.axis], slices)
    assert part is not None, (shape, place, slices)
    return (*shape[: place.axis], part, *shape[place.axis + 1 :])


# axes ---------------------------------------------------------------------------------------------------------------
def same_place(a: Along, b: Along) -> bool:
    return a.axis == b.axis and same_order(a, b)


def same_order(a: Along, b: Along) -> bool:
    """Whether the batch lies in two axes, or in one, in the same way."""
    return identical(a.inner, b.inner) and identical(a.outer, b.outer)


def _moved(form: Form, by: int) -> Along | None:
    return form.at(form.axis + by) if isinstance(form, Along) else None


def _one(places: Sequence[Along | None], what: str = "meets itself along two axes") -> Along:
    """The one place that all operands which have one agree on."""
    found = [p for p in places if p is not None]
    if not all(same_place(found[0], p) for p in found):
        raise Mixed(what)
    return found[0]


def _aligned(node: Node, types: Types, forms: Sequence[Form], rank: int, skip: int = 0) -> tuple[Cuts, Along]:
    """Operands that broadcast against each other to `rank` axes, of which the last `skip` are not looked at."""
    place = _one([_moved(f, rank - t.ndim) for t, f in zip(types, forms, strict=True)])
    cuts: list[Along | None] = []
    for t, form in zip(types, forms, strict=True):
        axis = place.axis - (rank - t.ndim)
        whole = axis >= 0 and not is_one(t.shape[axis])
        if isinstance(form, Along) and not whole:
            raise Mixed("repeats the batch")
        cuts.append(place.at(axis) if whole else None)
    return tuple(cuts), place


# rules --------------------------------------------------------------------------------------------------------------
def _elementwise(node: Node, types: Types, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    return _aligned(node, types, forms, node.output.type.ndim)


def _reduce(node: Node, types: Types, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    place = _one(_places(forms))
    axes = node.attrs["axes"]
    if place.axis in axes:
        if OPS[node.op].reduce != "sum" or node.output.type.dtype == "bool":
            raise Mixed(f"takes the {node.op} over the batch")
        return (place,), SUM
    before = 0 if node.attrs["keepdims"] else sum(a < place.axis for a in axes)
    return (place,), place.at(place.axis - before)


def _places(forms: Sequence[Form]) -> list[Along | None]:
    return [f if isinstance(f, Along) else None for f in forms]


def _alike(node: Node, types: Types, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    """Operands of equal shape up to an axis along which the op works as a whole, and results of such a shape."""
    place = _one(_places(forms))
    if place.axis == node.attrs.get("axis", -1):
        raise Mixed("works along the batch")
    return (place,) * len(forms), place


def _indices(node: Node, types: Types, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    place = _one(_places(forms))
    return (place,), place


def _reshape(node: Node, types: Types, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    """The batch lies along the new axis that takes it up whole: what is before the batch divides into what is before
    the axis, and what is behind it likewise. There is at most one."""
    place = _one(_places(forms))
    old, new = types[0].shape, node.attrs["shape"]
    before = product(old[: place.axis]) * place.outer
    behind = place.inner * product(old[place.axis + 1 :])
    for axis in range(len(new)):
        outer, inner = divide(before, product(new[:axis])), divide(behind, product(new[axis + 1 :]))
        if outer is not None and inner is not None and not is_one(new[axis]):
            return (place,), Along(axis, inner, outer)
    raise Mixed("does not keep the batch in one piece")


def _permute(node: Node, types: Types, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    place = _one(_places(forms))
    return (place,), place.at(node.attrs["axes"].index(place.axis))


def _broadcast_to(node: Node, types: Types, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    return _aligned(node, types, forms, node.output.type.ndim)


def _slice(node: Node, types: Types, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    place = _one(_places(forms))
    _need_whole(types[0], place, node.attrs["start"], node.attrs["size"], node.attrs["step"])
    return (place,), place


def _unslice(node: Node, types: Types, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    place = _one(_places(forms))
    _need_whole(node.output.type, place, node.attrs["start"], types[0].shape, node.attrs["step"])
    return (place,), place


def _need_whole(whole: TensorType, place: Along, start: Sequence, size: Sequence, step: Sequence) -> None:
    a = place.axis
    if not (identical(start[a], 0) and identical(step[a], 1) and identical(size[a], whole.shape[a])):
        raise Mixed("takes a part of the batch")


def _weave(node: Node, types: Types, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    place = _one(_places(forms))
    if node.attrs["step"][place.axis] != 1:
        raise Mixed("puts elements of the batch between each other")
    return (place,) * len(forms), place


def _matmul(node: Node, types: Types, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    """Axes by what they are to the product: a leading one of the result (by its place from the end of the leading
    ones), the rows of x, the columns of y, or the inner axis."""
    x, y = types
    roles = [_role(t, f, side) for side, (t, f) in enumerate(zip(types, forms, strict=True))]
    kind, place = next(r for r in roles if r is not None)
    if any(r is not None and (r[0] != kind or not same_order(r[1], place)) for r in roles):
        raise Mixed("multiplies elements of the batch with each other")
    if kind == "inner":
        ends = x.ndim - 1, max(y.ndim - 2, 0)
        return (place.at(ends[0]), place.at(ends[1])), SUM
    leading = max(x.ndim, y.ndim, 2) - 2
    if kind in ("rows", "columns"):
        side = 0 if kind == "rows" else 1
        if roles[1 - side] is not None:
            raise Mixed("multiplies elements of the batch with each other")
        axis = leading + (x.ndim > 1 and kind == "columns")
        return (place, None) if side == 0 else (None, place), place.at(axis)
    back = int(kind)  # leading axes, counted from the last one
    cuts = []
    for t in types:
        axis = t.ndim - 2 - back
        cuts.append(place.at(axis) if axis >= 0 and not is_one(t.shape[axis]) else None)
    return tuple(cuts), place.at(leading - back)


def _role(t: TensorType, form: Form, side: int) -> tuple[str, Along] | None:
    if not isinstance(form, Along):
        return None
    from_end = t.ndim - form.axis  # 1: the last axis
    if t.ndim == 1 or from_end == (1, 2)[side]:
        return "inner", form
    if from_end <= 2:
        return ("rows", "columns")[side], form
    return str(from_end - 2), form


def _take(node: Node, types: Types, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    axis, (table, index) = node.attrs.get("axis", 0), forms
    if isinstance(table, Along):
        if isinstance(index, Along) or table.axis == axis:
            raise Mixed("looks elements of the batch up by number")
        return (table, None), _around(table, axis, types[1].ndim - 1)
    assert isinstance(index, Along)
    return (None, index), index.at(axis + index.axis)


def _around(place: Along, axis: int, more: int) -> Along:
    """The place of an axis when another one before or behind it is replaced by more (or fewer) axes."""
    return place if place.axis < axis else place.at(place.axis + more)


def _scatter_add(node: Node, types: Types, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    axis, (index, x) = node.attrs.get("axis", 0), forms
    rank = types[0].ndim
    within = _moved(index, axis)
    if isinstance(x, Along) and not axis <= x.axis < axis + rank:
        if within is not None:
            raise Mixed("adds elements of the batch at each other's places")
        return (None, x), _around(x, axis, 1 - rank)
    place = _one([within, x if isinstance(x, Along) else None], "adds elements of the batch at each other's places")
    return (place.at(place.axis - axis), place), SUM


def _dynamic(node: Node, types: Types, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    """dynamic_slice and dynamic_update_slice: arrays, and a start."""
    *arrays, start = forms
    if isinstance(start, Along):
        raise Mixed("starts where an element of the batch says")
    cuts, place = _alike(node, types[:-1], arrays)
    return (*cuts, None), place


def _heads(node: Node, types: Types, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    """attention, its gradient, and that of a cache, which has a start: leading axes are heads apart, the last two
    positions and what they hold."""
    place = _one(_places(forms))
    if not types[-1].ndim:  # the start, a number
        cuts, form = _heads(node, types[:-1], forms[:-1])
        return (*cuts, None), form
    if place.axis >= types[0].ndim - 2:
        raise Mixed("lets elements of the batch attend to each other")
    return (place,) * len(forms), place


def _conv(node: Node, types: Types, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    """conv and conv_input: images, and a weight."""
    images, weight = forms
    if isinstance(weight, Along) or not isinstance(images, Along) or images.axis != 0:
        raise Mixed("does not have the batch along its first axis alone")
    return (images, None), images


def _conv_weight(node: Node, types: Types, forms: Sequence[Form]) -> tuple[Cuts, Form]:
    place = _one(_places(forms))
    if place.axis != 0:
        raise Mixed("does not have the batch along its first axis")
    return (place, place), SUM


RULES: dict[str, Rule] = {
    "add_along_axis": _alike,
    "attention": _heads,
    "attention_grad": _heads,
    "bounded": _indices,
    "broadcast_to": _broadcast_to,
    "cached_attention": _heads,
    "concat": _alike,
    "conv": _conv,
    "conv_input": _conv,
    "conv_weight": _conv_weight,
    "cummax": _alike,
    "cummin": _alike,
    "cumsum": _alike,
    "dynamic_slice": _dynamic,
    "dynamic_update_slice": _dynamic,
    "linear_scan": _alike,
    "matmul": _matmul,
    "permute": _permute,
    "reshape": _reshape,
    "scatter_add": _scatter_add,
    "slice": _slice,
    "sort": _alike,
    "take": _take,
    "take_along_axis": _alike,
    "topk": _alike,
    "unslice": _unslice,
    "weave": _weave,
    "wrapped": _indices,
}
