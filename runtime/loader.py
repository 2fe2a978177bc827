"""Object code -> addresses, through LLVM's LLJIT. Needs llvmlite only, no Numba; imported when first used."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import llvmlite.binding as llvm

_serial = itertools.count()


@cache
def _jit() -> llvm.orcjit.LLJIT:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    # JITLink puts an object in one piece; RuntimeDyld asks for each section on its own, and aborts the process where
    # two of them lie 2 GB apart, as they do in the gaps that other libraries leave.
    return llvm.create_lljit_compiler(use_jit_link=True, suppress_errors=True)


class Loaded:
    """Machine code in memory. The addresses are valid as long as this object lives.

    address  C symbol -> address (int)
    """

    def __init__(self, address: dict[str, int], tracker: llvm.orcjit.ResourceTracker, jit: object) -> None:
        self.address = address
        # The tracker unloads the code when it is collected, and it needs the JIT for that.
        self._tracker = tracker
        self._jit = jit


@cache
def has_wide_vectors() -> bool:
    """Whether this CPU computes with vectors of 512 bits."""
    import llvmlite.binding as llvm

    return llvm.get_host_cpu_features().get("avx512f", False)


def _undefined(obj: bytes) -> list[str]:
    """Symbols that an ELF object leaves undefined; [] for other formats. LLVM's error does not name them."""
    import llvmlite.binding as llvm

    if obj[:5] != b"\x7fELF\x02":
        return []
    sections = {section.name(): section.data() for section in llvm.ObjectFileRef.from_data(obj).sections()}
    names = sections[b".strtab"]
    undefined = []
    for start, _, _, section, _, _ in struct.iter_unpack("<IBBHQQ", sections[b".symtab"]):
        name = names[start : names.index(b"\0", start)].decode()
        if section == 0 and name:
            undefined.append(name)
    return undefined


def load(obj: bytes, names: Iterable[str]) -> Loaded:
    """Load a relocatable object for this machine and find the addresses of `names`.

    What the object leaves undefined (memset, libm) is taken from the running process. RuntimeError names what
    is missing. Each call makes a library of its own: equal symbols of different objects do not meet.
    """
    import llvmlite.binding as llvm

    wanted = sorted(set(names))
    builder = llvm.JITLibraryBuilder().add_object_img(obj).add_current_process()
    for name in wanted:
        builder.export_symbol(name)
    try:
        tracker = builder.link(_jit(), f"gradtape{next(_serial)}")
    except RuntimeError as error:
        missing = [name for name in _undefined(obj) if llvm.address_of_symbol(name) is None]
        because = f": this process has no {', '.join(missing)}" if missing else ""
        raise RuntimeError(f"the object code cannot be loaded{because} ({error})") from error
    return Loaded({name: tracker[name] for name in wanted}, tracker, _jit())
