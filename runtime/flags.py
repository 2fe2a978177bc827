"""How kernels are compiled. Apart from `jit.py`, so that a finished tape is found without Numba."""

# nnan and ninf are left out: a mask of -inf and a test for NaN must keep their meaning.
FAST_MATH = {"reassoc", "nsz", "arcp", "contract", "afn"}
# Measured on an AVX-512 Xeon, ns per element with 512 and with 256 bits: exp 0.20 and 0.31, GELU by tanh 0.33
# and 0.46, a row maximum 0.03 and 0.05, a row sum and axpy equal (0.01 and 0.05 in cache, 0.27 from memory).
# Without AVX-512 this is only an upper bound.
VECTOR_BITS = 512
OPTIMISATION = 3
RELOCATION = "pic"
CODE_MODEL = "small"


def flags_text() -> str:
    """All of them in one line: an ingredient of the cache's keys."""
    fast = "+".join(sorted(FAST_MATH))
    return f"O{OPTIMISATION} {RELOCATION} {CODE_MODEL} fast-math={fast} vector-bits={VECTOR_BITS} error-model=numpy"
