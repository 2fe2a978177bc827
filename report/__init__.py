"""The report: one HTML file in which a program is looked at.

contents.py   what is known of a compiled program, as plain data
tape.py       of that the tape: instructions by thread, and what lies where in the arena
runs.py       what a training has left behind: losses, norms of gradients and updates
html.py       plain data -> the page; its own code is in page/, the libraries it uses in vendor/
"""

from .contents import contents
from .html import page
from .runs import RunError, Training, read_run
from .tape import plan_of

__all__ = ["RunError", "Training", "contents", "page", "plan_of", "read_run"]
