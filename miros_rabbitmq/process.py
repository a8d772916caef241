"""What a forked child does before anything of this package is used in it.

A child has copies of all objects and none of the threads; locks that were held stay held for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable


def in_forked_child(callback: Callable[[], object]) -> Callable[[], object]:
    """Have a function called in every forked child; where nothing forks, as on Windows, never."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=callback)
    return callback
