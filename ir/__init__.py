"""What a program is, and what it means: types, dims, locations, ops, Graph, text, verifier, interpreter, Tape."""
