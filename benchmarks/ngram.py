"""What counting reaches on a text that `gradtape train` learns: the validation loss of character n-grams.

    python benchmarks/ngram.py [manual | path] [--order 3]

Orders are mixed as Witten and Bell (1991) do: after a context c with n occurrences and d different successors,
p(x | c) = (count(c x) + d p(x | c without its first character)) / (n + d), and the empty context falls back to 1 / V.
The text is split as for training. Prints one line for each order, in nats per character.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from gradtape.models.data import CharTokenizer, load_text, split


def losses(train: Sequence[int], held_out: Sequence[int], vocabulary: int, order: int) -> list[float]:
    """The mean of -log p over the held-out characters with `order` - 1 before them, for the orders 1 to `order`."""
    after: list[dict[tuple[int, ...], Counter[int]]] = [defaultdict(Counter) for _ in range(order)]
    for i, x in enumerate(train):
        for n in range(min(order, i + 1)):
            after[n][tuple(train[i - n : i])][x] += 1
    totals = [0.0] * order
    for i in range(order - 1, len(held_out)):
        p = 1 / vocabulary
        for n in range(order):
            seen = after[n].get(tuple(held_out[i - n : i]))
            if seen is not None:
                p = (seen[held_out[i]] + len(seen) * p) / (seen.total() + len(seen))
            totals[n] -= math.log(p)
    return [t / (len(held_out) - order + 1) for t in totals]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="manual")
    parser.add_argument("--order", type=int, default=3)
    options = parser.parse_args()
    text = load_text(options.data)
    tokenizer = CharTokenizer.of(text)
    train, held_out = split(tokenizer.encode(text), 1)
    for n, loss in enumerate(losses(list(train), list(held_out), len(tokenizer), options.order), 1):
        print(f"{n}-gram  {loss:.4f} nats per character")


if __name__ == "__main__":
    main()
