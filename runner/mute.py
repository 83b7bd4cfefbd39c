"""An answer that no voice could speak: the caller hears that there is one, and that it was lost.

Of a sentence whose sound is kept nobody has to be asked, so the apology is heard where the answer
could not be.
"""

from contextlib import suppress
from typing import Any

from livekit.agents import AgentSession, AgentStateChangedEvent


class Mute:
    """Says ``sentence`` in ``session`` when an answer ends without a sound for want of a voice.

    Not at once: an answer that was made ahead may never be wanted.
    """

    def __init__(self, session: AgentSession[Any], sentence: str) -> None:
        self._session = session
        self._sentence = sentence
        self._lost = False
        session.on("agent_state_changed", self._on_state)

    def lost(self) -> None:
        """A sentence of an answer was spoken by nobody."""
        self._lost = True

    def _on_state(self, event: AgentStateChangedEvent) -> None:
        if event.new_state == "speaking":
            self._lost = False
        elif self._lost and (event.old_state, event.new_state) == ("thinking", "listening"):
            self._lost = False
            with suppress(RuntimeError):  # the call is about to end
                self._session.say(self._sentence)
