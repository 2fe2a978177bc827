"""Running tapes in tests: `run_plainly` executes one as plain Python, on poisoned memory with every access checked;
`Batch` compiles the kernels of many tapes in one object, because that is what compiling costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

from gradtape.ir.graph import Graph
from gradtape.ir.host import call_host
from gradtape.ir.interp import Interpreter
from gradtape.ir.tape import ERROR_WORDS, Callback, Tape, View
from gradtape.ir.types import DTYPES, TensorType
from gradtape.ir.verify import verify
from gradtape.passes.hoist import hoist
from gradtape.passes.lower import lower
from gradtape.passes.rewrite import expand
from gradtape.passes.simplify import simplify
from gradtape.runtime import bind, driver
from gradtape.runtime import program as program_module
from gradtape.runtime.call import Pause
from gradtape.runtime.kernel import POINTERS
from gradtape.runtime.loader import load
from gradtape.runtime.primitives import Pointer, run_plain
from gradtape.runtime.program import Arena, Program, aligned_array, kernels_of

STORED = ("param", "buffer", "state")


def expanded(graph: Graph) -> Graph:
    """What a compilation does to a differentiated graph, verified."""
    return verify(simplify(hoist(simplify(expand(simplify(verify(graph)))))), "expanded")


def tape_of(graph: Graph, checks: Sequence[str] = ()) -> Tape:
    return lower(expanded(graph), checks)


def interpreted(graph: Graph, values: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(outputs, updates), by name."""
    return Interpreter(graph, values).run()


def split_values(graph: Graph, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(inputs of a call, store) out of the values of all inputs; the store's arrays are copies."""
    inputs, store = {}, {}
    for value in graph.inputs:
        given = np.asarray(values[value.name])
        if graph.roles[value.name] in STORED:
            store[value.name] = aligned_array(given.shape, DTYPES[value.type.dtype])
            store[value.name][...] = given
        else:
            inputs[value.name] = values[value.name]
    return inputs, store


@contextmanager
def sharing_everything() -> Iterator[None]:
    """Inside, the threads of a program share even the smallest instruction."""
    with mock.patch.multiple(bind, SMALL_WORK=1, SMALL_GEMM=1, WORTH_SHARING=0):
        yield


def poison(memory: np.ndarray) -> None:
    """Fills bytes with a pattern that is NaN as f32 and f64, and far out of range as an integer."""
    memory[...] = 0xFF


# plain Python -------------------------------------------------------------------------------------------------------
class PlainError(Exception):
    """The tape stopped: the error word."""


def run_plainly(
    tape: Tape,
    inputs: Mapping[str, Any],
    store: Mapping[str, np.ndarray],
    threads: int = 1,
    order: Callable[[int], Sequence[int]] | None = None,
) -> dict[str, np.ndarray]:
    """Runs a tape as plain Python: outputs by name; updates are written to `store`.

    A kernel that leaves its buffer raises IndexError. The arena starts poisoned. Between two barriers the threads run
    one after the other, in the order that `order(turn)` gives: a missing barrier shows as a wrong result.
    """
    dims: dict[str, int] = {}
    from gradtape.ir.dims import bind_shape

    for name, index, kind in tape.inputs:
        if tape.buffers[index].segment in ("input", "scalar"):
            assert bind_shape(kind.shape, np.shape(inputs[name]), dims) is None, name
    plan = bind.plan(tape, dims, threads)
    threads = plan.threads  # fewer where sharing is not worth it
    arena = np.empty(plan.arena_bytes, np.uint8)
    poison(arena)
    error = np.zeros(ERROR_WORDS, np.int64)
    names = {index: name for name, index, _ in tape.inputs}
    arrays: list[np.ndarray | None] = []
    for index, buffer in enumerate(tape.buffers):
        dtype, size = DTYPES[buffer.dtype], plan.sizes[index]
        if buffer.segment in ("input", "scalar"):
            array = np.array(inputs[names[index]], dtype).reshape(-1)
        elif buffer.segment in STORED:
            array = store[buffer.name].reshape(-1)
            assert np.shares_memory(array, store[buffer.name]) or not array.size
        elif buffer.segment == "const":
            array = tape.constants[buffer.name].reshape(-1)
        elif buffer.segment == "error":
            array = error
        elif plan.offsets[index] < 0:
            arrays.append(None)  # no instruction uses it
            continue
        else:
            size *= threads if buffer.segment == "partial" else 1
            start = plan.offsets[index]
            array = arena[start : start + size * dtype.itemsize].view(dtype)
        assert array.dtype == dtype and array.size == size, (buffer, array.dtype, array.size)
        arrays.append(array)

    def address(index: int, thread: int) -> int:
        array = arrays[index]
        assert array is not None
        part = thread * plan.sizes[index] if tape.buffers[index].segment == "partial" else 0
        return array.ctypes.data + part * array.itemsize

    kernels = {k.name: k for k in kernels_of(tape)}
    at = bind.Addresses(address, dict.fromkeys(kernels, 0), {"sgemm": 1, "dgemm": 1}, tiles=True)
    table: list[list[Callable[[], None]]] = []  # per meeting: what the threads do until the next, in thread order
    work: list[list[Callable[[], None]]] = [[] for _ in range(threads)]
    turn = 0

    def meet() -> None:
        nonlocal work, turn
        sequence = order(turn) if order is not None else range(threads)
        assert sorted(sequence) == list(range(threads))
        for thread in sequence:
            for do in work[thread]:
                do()
        work = [[] for _ in range(threads)]
        turn += 1

    def calling(call: bind.Call, thread: int, rounds: Mapping[str, int]) -> Callable[[], None]:
        kernel = kernels[call.instr.kernel]
        words: list[Any] = bind.words(tape, call, thread, at)
        assert len(words) == len(kernel.params), (kernel.name, words)
        for i, (_, kind) in enumerate(kernel.params):
            if kind in POINTERS:  # the pointers come first, one for each operand
                array = arrays[call.slots[i].buffer]
                assert array is not None
                offset, rest = divmod(words[i] - array.ctypes.data, array.itemsize)
                assert rest == 0
                offset += sum(step * rounds[index] for index, step in call.slots[i].rounds)
                words[i] = Pointer(array.view(np.uint8) if array.dtype == bool else array, offset)
            elif kind in ("f32", "f64"):
                bits = np.array([words[i]], np.int64)
                words[i] = bits.view(np.float32 if kind == "f32" else np.float64)[0]
        return lambda: run_plain(kernel, words)

    def window(view: View, kind: TensorType) -> np.ndarray:
        array = arrays[view.buffer]
        assert array is not None
        (offset,) = bind_concrete((view.offset,), dims)
        strides = [s * array.itemsize for s in bind_concrete(view.strides, dims)]
        return np.lib.stride_tricks.as_strided(array[offset:], bind_concrete(kind.shape, dims), strides)

    for call, rounds in unrolled(plan.entries):
        if isinstance(call, Pause):
            meet()
            if error[0]:
                break
            windows = [window(o.view, t) for o, (_, t) in zip(call.step.operands(), _typed(call.step), strict=True)]
            read = iter(windows)
            args = [next(read) if isinstance(a, tuple) else a for a in call.step.args]
            kinds = [TensorType(t.dtype, bind_concrete(t.shape, dims)) for _, t in call.step.results]
            for target, result in zip(read, call_host(call.step.function, args, kinds), strict=True):
                target[...] = result
            continue
        if call is None or call.barrier:
            meet()
        if call is None:
            if error[0]:
                break
            continue
        for thread in range(threads):
            if call.shares[thread] is not None:
                work[thread].append(calling(call, thread, rounds))
    meet()
    del table
    if error[0]:
        raise PlainError(error.tolist())
    outputs = {}
    for name, view, kind in tape.outputs:
        shape = bind_concrete(kind.shape, dims)
        strides = bind_concrete(view.strides, dims)
        offset = bind_concrete((view.offset,), dims)[0]
        array = arrays[view.buffer]
        assert array is not None
        out = np.empty(shape, DTYPES[kind.dtype])
        for index in np.ndindex(*shape):
            place = offset + sum(i * s for i, s in zip(index, strides, strict=True))
            assert 0 <= place < array.size
            out[index] = array[place]
        outputs[name] = out
    return outputs


def _typed(step: Callback) -> list[Any]:
    return [*(a for a in step.args if isinstance(a, tuple)), *step.results]


def unrolled(entries: Sequence[bind.Entry]) -> Iterator[tuple[bind.Call | Pause | None, dict[str, int]]]:
    """Every call as often as the loops around it say, with the numbers of their rounds."""
    rounds: dict[str, int] = {}
    opened: list[int] = []
    position = 0
    while position < len(entries):
        entry = entries[position]
        if isinstance(entry, bind.Open):
            opened.append(position)
            rounds[entry.index] = 0
            if entry.count == 0:  # go to its end
                depth = 1
                while depth:
                    position += 1
                    depth += isinstance(entries[position], bind.Open) - isinstance(entries[position], bind.Close)
                opened.pop()
        elif isinstance(entry, bind.Close):
            loop = entries[opened[-1]]
            assert isinstance(loop, bind.Open)
            rounds[loop.index] += 1
            if rounds[loop.index] < loop.count:
                position = opened[-1]
            else:
                opened.pop()
        else:
            yield entry, dict(rounds)
        position += 1


def bind_concrete(dims: Sequence[Any], values: Mapping[str, int]) -> tuple[int, ...]:
    from gradtape.ir.dims import evaluate

    return tuple(evaluate(d, values) for d in dims)


# compiled -----------------------------------------------------------------------------------------------------------
class Batch:
    """Tapes whose kernels are compiled together. `add` all of them, then `program` as often as wanted."""

    def __init__(self) -> None:
        self.kernels: dict[str, Any] = {}
        self.loaded: Any = None
        self.arena = Arena()

    def add(self, tape: Tape) -> Tape:
        assert self.loaded is None, "the batch is compiled already"
        self.kernels.update((k.name, k) for k in kernels_of(tape))
        return tape

    def compile(self) -> None:
        if self.loaded is None:
            from gradtape.runtime.jit import compile_object

            code = compile_object(list(self.kernels.values()))
            self.loaded = load(code, [*self.kernels, *driver.SYMBOLS])

    def program(self, tape: Tape, store: Mapping[str, np.ndarray], threads: int = 1) -> Program:
        """A program over the compiled kernels; its arena is shared by the batch and poisoned before every run."""
        self.compile()
        with mock.patch.object(program_module, "load", lambda code, names: self.loaded):
            program = _Poisoned(tape, b"", store, threads, self.arena)
        return program


class _Poisoned(Program):
    """Reads of memory that nothing has written give NaN or nonsense."""

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        self.bind(inputs).ready(self)
        poison(self.arena.memory)
        return super().run(inputs)
