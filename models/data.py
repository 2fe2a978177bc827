"""Training data: corpora and digits, a character tokenizer, batches that are a pure function of seed and position."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


class DataError(ValueError):
    """The data cannot be used; the message says why and what to do."""


# corpora --------------------------------------------------------------------------------------------------------------
def load_text(name: str) -> str:
    """`manual` (the Python manual that every CPython ships), `shakespeare` (downloaded once), or a UTF-8 file."""
    if name == "manual":
        return manual()
    if name == "shakespeare":
        return shakespeare()
    return text_from_file(name)


def manual() -> str:
    """The topics of the manual, about 0.5 MB, in sorted order. The words differ from one CPython to another."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name].strip("\n") for name in sorted(topics)) + "\n"


def text_from_file(path: str | Path) -> str:
    """The text of a UTF-8 file (a byte order mark is dropped); raises DataError where it is not one."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"cannot read {path}: {reason}; --data takes manual, shakespeare or a text file") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8: byte {raw[error.start]:#04x} at offset {error.start}; "
            f"convert it first, for instance with iconv -f latin1 -t utf-8"
        ) from None
    return text.replace("\r\n", "\n")


def data_dir() -> Path:
    """Where downloads are kept: $GRADTAPE_DATA_DIR, else the user's cache directory."""
    if "GRADTAPE_DATA_DIR" in os.environ:
        return Path(os.environ["GRADTAPE_DATA_DIR"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gradtape" / "data"


def shakespeare() -> str:
    """Tiny Shakespeare (1.1 MB): downloaded once, checked against its SHA-256, then read from `data_dir()`."""
    path = data_dir() / "tinyshakespeare.txt"
    if path.exists():
        raw = path.read_bytes()
        if hashlib.sha256(raw).hexdigest() == SHAKESPEARE_SHA256:
            return raw.decode()
        raise DataError(f"{path} is not tiny Shakespeare (its SHA-256 differs); delete it, and it is fetched again")
    try:
        with urllib.request.urlopen(SHAKESPEARE_URL, timeout=30) as response:
            raw = response.read()
    except (urllib.error.URLError, OSError, TimeoutError) as error:
        raise DataError(
            f"tiny Shakespeare could not be downloaded ({getattr(error, 'reason', error)}).\n"
            f"  Without a network, put the file at {path}, or give any text with --data FILE."
        ) from None
    if hashlib.sha256(raw).hexdigest() != SHAKESPEARE_SHA256:
        raise DataError(f"what {SHAKESPEARE_URL} sent is not tiny Shakespeare (its SHA-256 differs); nothing was kept")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(raw)
    part.replace(path)
    return raw.decode()


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 handwritten digits, as scikit-learn ships them: f32[1797, 8, 8] in 0 to 1, and their labels, i64[1797]."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError("the digits come with scikit-learn: pip install 'gradtape[data]'") from None
    pixels, labels = load_digits(return_X_y=True)
    return (np.asarray(pixels) / 16).astype(np.float32).reshape(-1, 8, 8), np.asarray(labels).astype(np.int64)


# characters -----------------------------------------------------------------------------------------------------------
class CharTokenizer:
    """One token per character; ids follow the order of `characters`."""

    def __init__(self, characters: Sequence[str]) -> None:
        self.characters = "".join(characters)
        self._codes = np.array([ord(c) for c in self.characters], np.uint32)
        self._ids = {c: i for i, c in enumerate(self.characters)}
        if len(self._ids) != len(self.characters):
            raise DataError("a vocabulary names every character once")

    @classmethod
    def of(cls, text: str) -> CharTokenizer:
        """The characters of a text, sorted."""
        return cls(sorted(set(text)))

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> np.ndarray:
        """Ids, i64[characters]. Raises DataError for a character that is not in the vocabulary: which, and where."""
        ids = np.empty(len(text), np.int64)
        for position, character in enumerate(text):
            found = self._ids.get(character)
            if found is None:
                raise DataError(f"character {character!r} at position {position} is not in the vocabulary of the model")
            ids[position] = found
        return ids

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        return "".join(self.characters[int(i)] for i in ids)


def split(tokens: np.ndarray, context: int, part: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """(training, validation) tokens: the last `part` is held out, and no position is in both.

    Raises DataError where either is too short for one window of `context` tokens and the token after it.
    """
    cut = int(len(tokens) * (1 - part))
    if min(cut, len(tokens) - cut) < context + 1:
        needed = int((context + 1) / part) + 1
        raise DataError(
            f"the text has {len(tokens)} characters; with context {context} it needs at least {needed} "
            f"(a tenth of it is held out for validation): give a longer text or a smaller --context"
        )
    return tokens[:cut], tokens[cut:]


class Batches:
    """Random windows: batch i is a pure function of (seed, i), so that training resumes at any position.

    `batches[i]` is (x, y), both i64[batch, context]; y is x one token on.
    """

    def __init__(self, tokens: np.ndarray, batch: int, context: int, seed: int) -> None:
        if len(tokens) < context + 1:
            raise DataError(f"{len(tokens)} tokens are too few for one window of {context} and the token after it")
        self.tokens, self.batch, self.context, self.seed = tokens, batch, context, seed

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, 0, index]))
        starts = rng.integers(0, len(self.tokens) - self.context, self.batch)
        windows = self.tokens[starts[:, None] + np.arange(self.context + 1)]
        return windows[:, :-1], windows[:, 1:]


def windows(tokens: np.ndarray, batch: int, context: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every token after the first as a target once, in windows of `context`; the rest that fills none comes last."""
    count = (len(tokens) - 1) // context
    for first in range(0, count, batch):
        starts = np.arange(first, min(first + batch, count))[:, None] * context
        block = tokens[starts + np.arange(context + 1)]
        yield block[:, :-1], block[:, 1:]
    rest = tokens[count * context :]
    if len(rest) > 1:
        yield rest[None, :-1], rest[None, 1:]
