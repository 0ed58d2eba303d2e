"""A PostgreSQL of our own in a local folder: for the first run and for the tests.

It works as root and as a normal user, listens on a Unix socket only, and ends with its owner.
"""

from __future__ import annotations

from .errors import AlreadyRunning, EmbeddedError, NoBinaries, WrongUser
from .server import EmbeddedServer, attach, throwaway

__all__ = [
    "AlreadyRunning",
    "EmbeddedError",
    "EmbeddedServer",
    "NoBinaries",
    "WrongUser",
    "attach",
    "throwaway",
]
