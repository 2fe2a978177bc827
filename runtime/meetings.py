"""Where threads must meet: barriers, found from the elements that every thread's share of a call touches.

Two calls of different threads conflict where one writes what the other touches, unless the threads meet in between.
Inside a loop an operand moves on from round to round, so two calls are compared at a distance of rounds: in the same
round, and across the end of a round. A loop with a barrier in it keeps the threads within one round of each other; in
one without, a thread may be any number of rounds ahead, and every distance is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Union

from ..ir.tape import Tape
from .call import Call, Close, Entry, Open, Pause


@dataclass(frozen=True)
class Touch:
    """What one thread touches in a call: elements first to last of a buffer in round 0, and its step per loop."""

    thread: int
    first: int
    last: int
    writes: bool
    rounds: Mapping[str, int]
    loops: tuple[Open, ...]  # around the call, outermost first


@dataclass
class Loop:
    open: Open
    items: list[Item] = field(default_factory=list)


Item = Union[Call, Loop, Pause, None]
Touched = dict[int, list[Touch]]  # buffer -> touches since the last meeting


def place_barriers(tape: Tape, entries: Sequence[Entry], threads: int, sizes: Sequence[int]) -> list[int]:
    """Marks the calls before which threads must meet. Returns the epoch (number of meetings so far) of every entry; on
    one thread, which needs none, its position."""
    if threads == 1:
        return list(range(len(entries)))
    _Placing(tape, threads, sizes).walk(_nested(iter(entries)), {}, ())
    epochs, epoch = [], 0
    for entry in entries:
        epoch += entry is None or isinstance(entry, Pause) or (isinstance(entry, Call) and entry.barrier)
        epochs.append(epoch)
        epoch += isinstance(entry, Pause)  # the threads have ended their run before it, and begin the next one after it
    return epochs


def _nested(entries: Iterator[Entry]) -> list[Item]:
    """The entries up to the end of the loop that is open, those of inner loops in a Loop."""
    items: list[Item] = []
    for entry in entries:
        if isinstance(entry, Close):
            break
        items.append(Loop(entry, _nested(entries)) if isinstance(entry, Open) else entry)
    return items


class _Placing:
    def __init__(self, tape: Tape, threads: int, sizes: Sequence[int]) -> None:
        self.tape, self.threads, self.sizes = tape, threads, sizes

    def walk(self, items: Sequence[Item], touched: Touched, loops: tuple[Open, ...]) -> bool:
        """Goes through items in order, placing barriers; `touched` is brought up to date. Whether there was one."""
        met = False
        for item in items:
            if item is None or isinstance(item, Pause):  # every thread must see the same error word; a run ends
                touched.clear()
                met = True
            elif isinstance(item, Loop):
                if item.open.count > 0:
                    met |= self.loop(item, touched, loops)
            else:
                mine = self.touches(item, loops)
                item.barrier = item.barrier or _meet(mine, touched, {})
                if item.barrier:
                    touched.clear()
                    met = True
                for buffer, touch in mine:
                    touched.setdefault(buffer, []).append(touch)
        return met

    def loop(self, loop: Loop, touched: Touched, around: tuple[Open, ...]) -> bool:
        """A loop: its body, and what follows across the end of a round; once more for every barrier that this adds."""
        before = {buffer: list(touches) for buffer, touches in touched.items()}
        loops = (*around, loop.open)
        while True:
            met = self.walk(loop.items, touched, loops)
            if loop.open.count == 1:
                return met
            late = {buffer: [t for t in found if loop.open in t.loops] for buffer, found in touched.items()}
            if not self.across(loop, loop.items, late, {loop.open.index: 1 if met else None}, loops):
                return met
            touched.clear()
            touched.update({buffer: list(touches) for buffer, touches in before.items()})

    def across(
        self, loop: Loop, items: Sequence[Item], late: Touched, distance: Mapping[str, int | None], loops: tuple
    ) -> bool:
        """Places a barrier before the first call that conflicts, some rounds later, with what was touched since the
        last meeting (`late`). Only calls that come before the first meeting of their round can."""
        for call, inside in _calls(items, loops):
            if call.barrier:
                return False
            mine = self.touches(call, inside)
            if _meet(mine, late, distance):
                call.barrier = True
                return True
        return False

    def touches(self, call: Call, loops: tuple[Open, ...]) -> list[tuple[int, Touch]]:
        """(buffer, touch) of all threads in a call."""
        found = []
        for thread in range(self.threads):
            if call.shares[thread] is None:
                continue
            starts, counts = call.part(thread)
            for slot in call.slots:
                if slot.buffer < 0 or self.tape.buffers[slot.buffer].segment == "error":
                    continue
                if self.tape.buffers[slot.buffer].segment == "partial":
                    size = self.sizes[slot.buffer]
                    low, high = thread * size, (thread + 1) * size - 1
                    if call.instr.kernel.startswith("combine"):
                        low, high = 0, call.parts * size - 1
                else:
                    low, high = slot.hull(starts, counts)
                touch = Touch(thread, low, high, "w" in slot.mode, dict(slot.rounds), loops)
                found.append((slot.buffer, touch))
        return found


def _calls(items: Sequence[Item], loops: tuple[Open, ...]) -> Iterator[tuple[Call, tuple[Open, ...]]]:
    for item in items:
        if isinstance(item, Loop):
            if item.open.count > 0:
                yield from _calls(item.items, (*loops, item.open))
        elif isinstance(item, Call):
            yield item, loops


def _meet(mine: Sequence[tuple[int, Touch]], earlier: Touched, distance: Mapping[str, int | None]) -> bool:
    """Whether one of `mine` conflicts with what another thread touched earlier."""
    return any(a.thread != b.thread and conflict(a, b, distance) for buffer, b in mine for a in earlier.get(buffer, ()))


def conflict(a: Touch, b: Touch, distance: Mapping[str, int | None]) -> bool:
    """Whether two touches of one buffer can meet: one of them writes, and in some pair of rounds they overlap.

    Both are in the same round of the loops that they share; with `distance`, b is so many rounds later in that loop, or
    (None) any number. In loops that only one of them is in, and inside of a loop in whose rounds they differ, either
    may be in any round.
    """
    if not (a.writes or b.writes):
        return False
    together = True
    offset = 0  # of a over b, as far as it is fixed
    terms: list[tuple[int, int]] = []  # (step, count): it can be more by step * k, 0 <= k < count
    for loop in dict.fromkeys((*a.loops, *b.loops)):
        n, sa, sb = loop.count, a.rounds.get(loop.index, 0), b.rounds.get(loop.index, 0)
        shared = together and loop in a.loops and loop in b.loops
        apart = distance.get(loop.index, 0)
        together &= apart == 0
        if shared and apart is not None:
            offset -= apart * sb
            terms.append((sa - sb, n - apart))
        elif shared and sa == sb:
            offset -= sb
            terms.append((-sb, n - 1))
        elif sa == sb:  # in rounds of their own: the difference goes from -(n - 1) to n - 1 steps
            offset -= sa * (n - 1)
            terms.append((sa, 2 * n - 1))
        else:
            terms += [(sa, n), (-sb, n)]
    return _reaches(terms, b.first - a.last - offset, b.last - a.first - offset)


def _reaches(terms: Sequence[tuple[int, int]], low: int, high: int) -> bool:
    """Whether a sum of `step * k` (0 <= k < count, one term each) lies in [low, high]. Exact for one term; of several
    all but the one with the largest step are taken to reach everything between their ends."""
    ordered = sorted(((s, c) for s, c in terms if s and c > 1), key=lambda term: abs(term[0]))
    for step, count in ordered[:-1]:
        end = step * (count - 1)
        low, high = low - max(end, 0), high - min(end, 0)
    if not ordered:
        return low <= 0 <= high
    step, count = ordered[-1]
    if step < 0:
        step, low, high = -step, -high, -low
    first = max(-(-low // step), 0)  # the least k with step * k >= low
    return first < count and step * first <= high
