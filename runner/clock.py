"""The database's clock, by which sessions end and are forgotten: may it be believed?

It is some machine's, and a machine's clock is set: by hand, after a suspension, by a wrong time
server. Time that passes here is compared with it.
"""

import logging
import math
import time

from runner.store import Store

log = logging.getLogger(__name__)

_JUMP_S = 30.0  # more than clocks are corrected by while they run, less than any time-out


class Clock:
    """The database's, as one process sees it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._offset_s: float | None = None
        self._jumped_at = -math.inf

    async def steady_s(self) -> float:
        """For how long it has gone as time does; infinite: nothing else is known.

        Raises:
            DatabaseError: it cannot be read.
        """
        offset_s = await self._store.now_s() - time.monotonic()
        if self._offset_s is not None and abs(offset_s - self._offset_s) > _JUMP_S:
            self._jumped_at = time.monotonic()
            log.warning(
                "the database's clock jumped by %+.0f s: what is old is not known, and nothing is "
                "ended or deleted for its age for a while",
                offset_s - self._offset_s,
            )
        self._offset_s = offset_s
        return time.monotonic() - self._jumped_at
