"""Object code -> addresses, through LLVM's LLJIT. Needs llvmlite only, no Numba; imported when first used."""

from __future__ import annotations

import importlib.util
import itertools
import struct
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import llvmlite.binding as llvm

_serial = itertools.count()


class Host(NamedTuple):
    """What machine code must fit, and what made it: the sorted features are those that this CPU has."""

    triple: str
    cpu: str
    features: tuple[str, ...]
    llvmlite: str
    llvm: str


def installed_version(name: str) -> str:
    """The version of an installed distribution, "none" without it. Read off the name of its `.dist-info` where that
    lies beside the package: `importlib.metadata` takes 20 ms to import."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return "none"
    beside = Path(spec.origin).parents[1].glob(f"{name}-*.dist-info")
    versions = [path.name.removeprefix(f"{name}-").removesuffix(".dist-info") for path in beside]
    if len(versions) == 1:
        return versions[0]
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


@cache
def host() -> Host:
    """This machine."""
    import llvmlite.binding as llvm

    features = tuple(sorted(name for name, has in llvm.get_host_cpu_features().items() if has))
    version = ".".join(map(str, llvm.llvm_version_info))
    return Host(llvm.get_process_triple(), llvm.get_host_cpu_name(), features, installed_version("llvmlite"), version)


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


def load(objects: bytes | Sequence[bytes], names: Iterable[str]) -> Loaded:
    """Load relocatable objects for this machine and find the addresses of `names`.

    What they leave undefined (memset, libm) is taken from the running process. RuntimeError names what
    is missing. Each call makes a library of its own: equal symbols of different calls do not meet.
    """
    import llvmlite.binding as llvm

    images = (objects,) if isinstance(objects, bytes) else tuple(objects)
    builder = llvm.JITLibraryBuilder()
    for image in images:
        builder.add_object_img(image)
    try:
        return _link(builder, names)
    except RuntimeError as error:
        undefined = sorted({name for image in images for name in _undefined(image)})
        missing = [name for name in undefined if llvm.address_of_symbol(name) is None]
        because = f": this process has no {', '.join(missing)}" if missing else ""
        raise RuntimeError(f"the object code cannot be loaded{because} ({error})") from error


def load_assembly(text: str, names: Iterable[str]) -> Loaded:
    """The same for a little LLVM assembly. RuntimeError if it cannot be linked."""
    import llvmlite.binding as llvm

    return _link(llvm.JITLibraryBuilder().add_ir(text), names)


def _link(builder: llvm.orcjit.JITLibraryBuilder, names: Iterable[str]) -> Loaded:
    wanted = sorted(set(names))
    builder.add_current_process()
    for name in wanted:
        builder.export_symbol(name)
    tracker = builder.link(_jit(), f"gradtape{next(_serial)}")
    return Loaded({name: tracker[name] for name in wanted}, tracker, _jit())
