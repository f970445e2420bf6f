# Copied by `make vendor` from support/interrupts.py of the collection: edit that, or this in your own copy.
"""Ctrl-C and SIGTERM: one interrupt, and none in the midst of what MLflow writes."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import ClassVar
from weakref import WeakSet

WAIT = 5  # seconds that an interrupt waits for MLflow at most


def heed_interrupts() -> None:
    """Have Ctrl-C and SIGTERM raise KeyboardInterrupt once, and not in the midst of a call of MLflow.

    There it would leave a transaction open and the database locked. It waits for the call, but not for ever, because a
    server may not answer. `mlflow run` sends a SIGTERM on top of a Ctrl-C, which must not cut the ending of runs short.
    """
    waited = 0.0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal waited
        if _Interrupt.handled:
            return
        if waited < WAIT and _in_mlflow(frame) and hasattr(signal, "setitimer"):  # Windows has none
            waited += 0.01
            signal.signal(signal.SIGALRM, interrupt)
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            return
        waited = 0
        raise _Interrupt

    if threading.current_thread() is threading.main_thread():  # only there can signals be handled
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, interrupt)


class _Interrupt(KeyboardInterrupt):
    """An interrupt; `handled` holds it for as long as it is on its way up."""

    handled: ClassVar[WeakSet[KeyboardInterrupt]] = WeakSet()

    def __init__(self) -> None:
        super().__init__()
        self.handled.add(self)


def _in_mlflow(frame: FrameType | None) -> bool:
    """Whether a store of MLflow, or what it writes with, is at work."""
    while frame:
        if frame.f_globals.get("__name__", "").startswith(("mlflow.tracking.", "mlflow.store.", "sqlalchemy.")):
            return True
        frame = frame.f_back
    return False
