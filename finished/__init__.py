"""From a traced program to its finished tape: made by the passes, kept on disk, and found there the next time.

recipe.py     what decides a tape, as text
building.py   the passes in their order
parts.py      a tape, its object code and its verdict as parts of a file, and back
verdict.py    when what the lint has said still holds
lookup.py     the cache asked first, then all of the above
saved.py      the programs of a model as one file, for `gt.load`
"""
