"""Tape -> numbers: kernels, their compilation to one object, and the driver and threads that run it.

Nothing is imported here: a tape loaded from disk needs neither Numba nor the files that compile.
"""
