"""The tape as the report draws it: every instruction by thread, and the arena with what lives where and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..ir.tape import Tape
from ..pictures import PHASES, Picture
from ..runtime.bind import ITEMSIZE, Plan, plan
from ..runtime.call import Call, Close, Open
from ..runtime.cost import cost, kind_of
from ..runtime.meetings import place_barriers
from ..runtime.profile import Profile
from ..runtime.program import Program

SIZE = 16  # of a named size that has no bound, where the program has not run yet


def plan_of(program: Program) -> Plan:
    """What binding has decided for the latest call; of a program that has not run yet what it would decide for the
    bounds of its sizes."""
    made = program.latest_plan()
    if made is not None:
        return made
    sizes = {name: max(symbol.min, symbol.max or SIZE) for name, symbol in program.tape.symbols.items()}
    return plan(program.tape, sizes, program.threads)


def tape_data(tape: Tape, bound: Plan, fused: Picture, profile: Profile | None) -> dict[str, Any]:
    """`instructions`, `buffers`, `kernels` and sizes of the arena.

    An instruction has the threads that take part, its work, and `at`: where it stands on the axis of the drawing. That
    axis counts instructions; with a profile it is time, and `spans` says what each thread did when. A buffer is there
    `from` one instruction `to` another, that one included: as long as nobody else can have its memory.
    """
    phases = _phases(tape, fused)
    instructions, epochs = [], []
    rounds = [1]
    every = place_barriers(tape, bound.entries, bound.threads, bound.sizes)
    for epoch, entry in zip(every, bound.entries, strict=True):
        if isinstance(entry, Open):
            rounds.append(rounds[-1] * max(entry.count, 0))
        elif isinstance(entry, Close):
            rounds.pop()
        elif isinstance(entry, Call):
            number = len(instructions)
            instructions.append(_instruction(tape, entry, bound.threads, phases.get(number, "forward"), rounds[-1]))
            epochs.append(epoch)
    data = {
        "threads": bound.threads,
        "arena": bound.arena_bytes,
        "barriers": sum(i["barrier"] for i in instructions),
        "instructions": instructions,
        "buffers": _buffers(tape, bound, epochs),
        "kernels": {name: str(program) for name, program in tape.rows.items()},
        "spans": [],
    }
    if profile is not None:
        # Waiting is what is left white. Microseconds, to a hundredth: the clock is no better.
        data["spans"] = [
            [s.instruction, s.thread, round(s.start * 1e6, 2), round(s.end * 1e6, 2)]
            for s in profile.spans
            if s.kind not in ("wait", "callback")
        ]
        for instruction, work in zip(instructions, profile.instructions, strict=True):
            instruction["seconds"] = sum(work.seconds) / bound.threads
            instruction["bound"] = profile.bound(work) / bound.threads
    return data


def _instruction(tape: Tape, call: Call, threads: int, phase: str, rounds: int) -> dict[str, Any]:
    work = [cost(tape, call, thread) for thread in range(threads)]
    instr = call.instr
    where = instr.location
    return {
        "kernel": instr.kernel,
        "kind": kind_of(tape, instr),
        "label": instr.label or instr.kernel,
        "phase": phase,
        "axes": list(call.axes),
        "rounds": rounds,
        "flops": rounds * sum(flops for flops, _ in work),
        "bytes": rounds * sum(moved for _, moved in work),
        "shares": [None if share is None else share[1] for share in call.shares],
        "barrier": call.barrier,
        "file": where.file if where else "",
        "line": where.line if where else 0,
        "scope": where.scope if where else "",
        "reads": sorted({o.view.buffer for o in instr.operands if "r" in o.mode and o.view.buffer >= 0}),
        "writes": sorted({o.view.buffer for o in instr.operands if "w" in o.mode and o.view.buffer >= 0}),
    }


def _phases(tape: Tape, fused: Picture) -> Mapping[int, str]:
    """Of every instruction the earliest phase that it works for: one that makes a norm and keeps what its derivative
    needs is forward. What runs no node of the graph (copies, sums of parts) belongs to what stands before it."""
    found: dict[int, int] = {}
    for node in fused.nodes:
        for number in node.instructions:
            phase = PHASES.index(node.phase) if node.phase in PHASES else 0
            found[number] = min(found.get(number, len(PHASES)), phase)
    last, out = 0, {}
    for number in range(len(tape.instructions())):
        last = found.get(number, last)
        out[number] = PHASES[last]
    return out


def _buffers(tape: Tape, bound: Plan, epochs: list[int]) -> list[dict[str, Any]]:
    """All buffers by number; those of the arena with their place and time."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for number, epoch in enumerate(epochs):
        first.setdefault(epoch, number)
        last[epoch] = number
    final = max(epochs, default=0)
    out = []
    for index, buffer in enumerate(tape.buffers):
        copies = bound.threads if buffer.segment == "partial" else 1
        size = bound.sizes[index] * ITEMSIZE[buffer.dtype] * copies
        data: dict[str, Any] = {"name": buffer.name, "dtype": buffer.dtype, "bytes": size, "segment": buffer.segment}
        if bound.offsets[index] >= 0 and index in bound.lifetimes:
            born, died = bound.lifetimes[index]
            # an epoch without an instruction (a stop, the end of a loop) has the place of the next, or of the last
            begin = next((first[e] for e in range(born, final + 1) if e in first), len(epochs) - 1)
            end = next((last[e] for e in range(min(died, final), -1, -1) if e in last), 0)
            data |= {"offset": bound.offsets[index], "from": begin, "to": max(begin, end)}
        out.append(data)
    return out
