"""The cache that tests get, other than those of the cache itself."""

import json

from gradtape.finished.parts import Places, finished_from
from gradtape.ir.tape_data import tape_data
from gradtape.runtime import container
from gradtape.runtime.cache import Cache


class CheckedCache(Cache):
    """Keeps kernels. No test gets the tape of another one, which may have patched a pass; but every tape that a test
    compiles is written and read, and must be the same then."""

    def get(self, kind, wanted):
        return (None, "no entry") if kind == "tape" else super().get(kind, wanted)

    def put(self, kind, ingredients, header, parts):
        if kind != "tape":
            super().put(kind, ingredients, header, parts)
            return
        again = container.unpack(container.pack({**header, "ingredients": dict(ingredients)}, parts))[1]
        read = tape_data(finished_from(again).tape, Places(()).place)
        assert json.dumps(read) == json.dumps(json.loads(parts["tape"])["tape"]), header
