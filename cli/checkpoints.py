"""Checkpoints: one safetensors file with weights, optimizer state and, as JSON in its metadata, everything else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint cannot be read or written, or does not fit; the message says what to do."""


@dataclass
class Checkpoint:
    """`weights` under the model's names, `optimizer` under `optimizer.*`; `info` is plain JSON: step, seed,
    vocabulary, model and training options."""

    weights: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    info: dict[str, Any]


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Writes the file beside its place, then moves it there: the earlier one stays until the new one is whole."""
    from safetensors.numpy import save as to_bytes

    tensors = {k: np.asarray(v, order="C") for k, v in {**checkpoint.weights, **checkpoint.optimizer}.items()}
    info = json.dumps({"format": FORMAT, **checkpoint.info})
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part, to_bytes(tensors, metadata={"gradtape": info}))
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        kept = f"; the earlier {path.name} is untouched" if path.exists() else ""
        raise CheckpointError(
            f"the checkpoint could not be written to {path}: {error.strerror or error}{kept}"
        ) from None


def write(path: Path, data: bytes) -> None:
    """The bytes on disk, not only in the system's cache."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint; a folder stands for the checkpoint in it. Raises CheckpointError."""
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        path = path / "checkpoint.safetensors"
    if not path.exists():
        raise CheckpointError(
            f"there is no checkpoint at {path}; `gradtape train` writes runs/<name>/checkpoint.safetensors"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a whole checkpoint ({error}); it may be truncated or of another program"
        ) from None
    if "gradtape" not in metadata:
        raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of gradtape")
    info = json.loads(metadata["gradtape"])
    if info.get("format") != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {info.get('format')}; this gradtape reads format {FORMAT}")
    weights = {k: v for k, v in tensors.items() if not k.startswith("optimizer.")}
    optimizer = {k: v for k, v in tensors.items() if k.startswith("optimizer.")}
    return Checkpoint(weights, optimizer, info)


def differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """One line for each option that differs."""
    return [
        f"{k}: {saved[k]} in the checkpoint, {wanted[k]} asked for"
        for k in wanted
        if k in saved and saved[k] != wanted[k]
    ]
