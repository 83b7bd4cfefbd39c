"""Stalls of an event loop: found while they last, and named by the stack that blocks it.

The loop leaves a beat; a thread that otherwise sleeps looks whether it is fresh. LiveKit's own
monitor does the same and more for 6 to 8 % of a call's CPU: `runner.app` turns it off.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

STALL_S = 0.5
"""A loop that does nothing else for so long is stalled: its caller hears a gap."""

_BEAT_S = 0.25  # each wakes the loop: at 0.1 s they are a fortieth of a call at rest
_LOOK_S = 0.25
_FRAMES = 15  # of the stack, the innermost
_IDLE_SHARE = 0.1  # of a time in which a process that was held up by its own code used the CPU


@contextmanager
def watched(who: str, on_stall: Callable[[], object]) -> Iterator[None]:
    """Watches the running loop during the block. ``who`` is named in the log; ``on_stall`` is
    called in the loop after each stall."""
    watch = _Watch(asyncio.get_running_loop(), who, on_stall)
    try:
        yield
    finally:
        watch.stop()


class _Watch:
    """All times are monotonic: a clock that is set neither makes nor hides a stall."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, who: str, on_stall: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._who = who
        self._on_stall = on_stall
        self._blocked = threading.get_ident()
        self._beat_at = self._looked_at = time.monotonic()
        self._cpu_s = time.process_time()
        self._named_beat = 0.0
        self._absent_s = 0.0
        self._over = threading.Event()
        self._timer = loop.call_later(_BEAT_S, self._beat)
        threading.Thread(target=self._look, name="stalls", daemon=True).start()

    def stop(self) -> None:
        """Ends the watch; the thread ends by itself."""
        self._timer.cancel()
        self._over.set()

    def _beat(self) -> None:
        now, cpu_s = time.monotonic(), time.process_time()
        late_s = now - self._beat_at - _BEAT_S
        if late_s > STALL_S:
            unwatched_s = max(now - self._looked_at, self._absent_s)  # whoever woke first
            self._tell(late_s, cpu_s - self._cpu_s, unwatched_s)
        self._beat_at, self._cpu_s, self._absent_s = now, cpu_s, 0.0
        self._timer = self._loop.call_later(_BEAT_S, self._beat)

    def _tell(self, late_s: float, cpu_s: float, unwatched_s: float) -> None:
        """What is known once the loop goes on."""
        if self._named_beat == self._beat_at:
            log.warning("the event loop of %s goes on, after %.1f s", self._who, late_s)
        elif unwatched_s > STALL_S and cpu_s < late_s * _IDLE_SHARE:
            log.info("%s was not run for %.1f s: suspended, or no CPU was free", self._who, late_s)
            return
        else:  # native code that kept Python's lock kept the watching thread from looking, too
            log.warning("the event loop of %s was blocked for %.1f s", self._who, late_s)
        self._on_stall()

    def _look(self) -> None:
        while not self._over.wait(_LOOK_S):
            now, beat_at = time.monotonic(), self._beat_at
            slept_s, self._looked_at = now - self._looked_at, now
            if slept_s > STALL_S:
                self._absent_s = slept_s
                continue  # nobody ran, this thread neither: the loop gets its chance first
            if now - beat_at - _BEAT_S > STALL_S and self._named_beat != beat_at:
                self._named_beat = beat_at
                self._name(now - beat_at)

    def _name(self, late_s: float) -> None:
        frame = sys._current_frames().get(self._blocked)  # noqa: SLF001  documented, for debuggers
        stack = "".join(traceback.format_stack(frame, _FRAMES)) if frame else ""
        log.warning("the event loop of %s is blocked since %.1f s by\n%s", self._who, late_s, stack)
