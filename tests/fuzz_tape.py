"""Fuzzes what reads tapes: changed bytes, and changed contents under a digest that fits. Whatever it is given, the
reader gives a tape or raises Damaged.

    python tests/fuzz_tape.py --seconds 600 [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import gradtape as gt
from gradtape.finished.parts import finished_from
from gradtape.finished.saved import model_from
from gradtape.ir.tape_data import Damaged
from gradtape.runtime import container
from gradtape.runtime.cache import check

ODD = [
    None, True, -1, 0, 1, 2**31, 2**63, -(2**70), 0.5, float("nan"), float("inf"), "", "B", "B*B", "eval", "0" * 2000,
    "__import__('os')", [], [[]], {}, {"dim": "T"}, "b0", "f32", "input", "r", "rw", "call", "loop",
]  # fmt: skip


def samples() -> list[bytes]:
    """A saved model, and an entry of the cache."""
    with tempfile.TemporaryDirectory() as folder:
        gt.manual_seed(0)
        model = gt.models.MLP(4, 5, 3)
        step = gt.compile(model, loss=gt.cross_entropy, optimizer=gt.AdamW(lr=0.1), threads=1, cache=False)
        x, y = np.ones((6, 4), np.float32), np.arange(6) % 3
        step(x, y)
        step.forward(x)
        step.save(Path(folder) / "t.tape")
        saved = (Path(folder) / "t.tape").read_bytes()
    from gradtape.finished.parts import parts_of

    variant = step._latest
    assert variant is not None
    entry = container.pack({"ingredients": {"program": "1"}}, parts_of(variant.stages.recipe, variant.finished))
    return [saved, entry]


def changed_bytes(data: bytes, draw: random.Random) -> bytes:
    """Flipped, cut, doubled, moved and overwritten bytes."""
    out = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 5, 50])):
        kind, at = draw.randrange(6), draw.randrange(len(out) + 1)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del out[at:]
        elif kind == 2:
            out[at:at] = draw.randbytes(draw.randrange(20))
        elif kind == 3:
            del out[at : at + draw.randrange(100)]
        elif kind == 4:
            start = draw.randrange(len(out) + 1)
            out[at : at + 8] = out[start : start + 8]
        else:
            out[at : at + 4] = draw.choice([b"\0" * 4, b"\xff" * 4, b"\0\0\0\x80", b"\x01\0\0\0"])
    return bytes(out)


def changed_json(value: object, draw: random.Random) -> object:
    """One place of it is another: an odd value, one from elsewhere, removed, doubled, or moved."""
    places: list[tuple] = []

    def walk(item: object) -> None:
        pairs = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
        for key, child in pairs:
            places.append((item, key))
            walk(child)

    walk(value)
    for _ in range(draw.choice([1, 1, 2, 4])):
        if not places:
            return draw.choice(ODD)
        holder, key = draw.choice(places)
        if key not in (holder if isinstance(holder, dict) else range(len(holder))):
            continue  # an earlier change has taken it
        kind = draw.randrange(5)
        if kind < 2:
            holder[key] = draw.choice(ODD)
        elif kind == 2:
            other, name = draw.choice(places)
            if name in (other if isinstance(other, dict) else range(len(other))):
                holder[key] = json.loads(json.dumps(other[name]))
        elif kind == 3:
            del holder[key]
        elif isinstance(holder, list):
            holder.append(json.loads(json.dumps(holder[key])))
        elif isinstance(holder[key], int):
            holder[key] += draw.choice([-1, 1])
    return value


def resealed(data: bytes, draw: random.Random) -> bytes:
    """The same with other contents, and a digest that fits."""
    header, parts = container.unpack(data)
    header.pop("parts")
    name = draw.choice([n for n in parts if not n.startswith("object")])
    if draw.random() < 0.1:
        header = changed_json(header, draw)  # type: ignore[assignment]
        header = header if isinstance(header, dict) else {}
    elif draw.random() < 0.05:
        parts.pop(name)
    elif name.endswith(("tape", "model")) and draw.random() < 0.9:
        parts[name] = json.dumps(changed_json(json.loads(parts[name]), draw)).encode()
    else:
        parts[name] = changed_bytes(parts[name], draw)
    if draw.random() < 0.05:
        body = changed_bytes(container.checked(container.pack(header, parts)), draw)
        digest = container._digest(len(body), body)
        return container._HEAD.pack(container.MAGIC, container.VERSION, len(body), digest) + body
    return container.pack(header, parts)


def read(data: bytes) -> bool:
    """Everything that is read before anything runs; True where it is a tape."""
    try:
        _, parts = container.unpack(data)
        if "model" in parts:
            for program in model_from(parts).programs:
                program.parsed()
        else:
            finished_from(parts)
    except Damaged:
        return False
    return True


def fuzz(seed: int, count: int | None = None, seconds: float = 0.0) -> tuple[int, int]:
    """(files read, of which were tapes). Raises what the reader must not raise, and keeps the file that made it."""
    draw, until = random.Random(seed), time.monotonic() + seconds
    bases, done, sound = samples(), 0, 0
    while done < count if count is not None else time.monotonic() < until:
        base = draw.choice(bases)
        data = resealed(base, draw) if draw.random() < 0.8 else changed_bytes(base, draw)
        try:
            sound += read(data)
        except BaseException:
            path = Path(tempfile.gettempdir()) / f"fuzz_tape_{seed}_{done}.tape"
            path.write_bytes(data)
            print(f"seed {seed}, file {done}: kept as {path} ({check(path)})", file=sys.stderr)  # noqa: T201
            raise
        done += 1
    return done, sound


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=600.0)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    read_files, tapes = fuzz(given.seed, seconds=given.seconds)
    print(f"{read_files} files, {tapes} of them still tapes; the rest was told to be damaged")  # noqa: T201
