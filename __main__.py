"""`python -m gradtape`: the same as the `gradtape` command."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="gradtape")
