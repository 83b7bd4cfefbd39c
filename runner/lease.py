"""A worker's lease on its sessions: a beat in the database, and an ear for those of the others.

A worker is dead when its beat has stood still for so long, measured by who watches: no clock of
the database or of another machine counts, and while the database is away nobody dies.
"""

import time
import uuid
from dataclasses import dataclass, field

from runner.errors import DatabaseError
from runner.store import Orphan, Store

BEAT_S = 1.0
_DEAD_S = 3.0
_LOOK_S = 10.0  # sessions may turn up whose worker has been gone for long, from a file that it left


@dataclass(frozen=True)
class _Beat:
    """What was last seen of another worker, and since when it is that."""

    beat: int
    since: float


@dataclass
class Lease:
    """Of this worker."""

    store: Store
    worker_id: uuid.UUID
    _others: dict[uuid.UUID, _Beat] = field(default_factory=dict)
    _looked_at: float = 0.0

    async def renew(self) -> list[Orphan]:
        """One beat; to be called every `BEAT_S`.

        Returns:
            The sessions of dead workers, which are this worker's from now on.

        Raises:
            DatabaseError: the others may have had the same trouble, so they are watched anew.
        """
        try:
            beats = await self.store.beat(self.worker_id)
        except DatabaseError:
            self._others.clear()
            raise
        dead = self._stood_still(beats, time.monotonic())
        for worker_id in dead:
            await self.store.leave(worker_id, beats[worker_id])
        if not dead and time.monotonic() - self._looked_at < _LOOK_S:
            return []
        self._looked_at = time.monotonic()
        return await self.store.adopt_orphans(self.worker_id)

    async def end(self) -> None:
        """Strikes this worker off."""
        await self.store.leave(self.worker_id)

    def _stood_still(self, beats: dict[uuid.UUID, int], now: float) -> list[uuid.UUID]:
        seen = self._others
        self._others = {
            worker_id: known
            if (known := seen.get(worker_id)) and known.beat == beat
            else _Beat(beat, now)
            for worker_id, beat in beats.items()
        }
        return [
            worker_id for worker_id, known in self._others.items() if now - known.since >= _DEAD_S
        ]
