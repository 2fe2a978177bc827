"""Graph -> Graph and Graph -> Tape: named pure functions."""
