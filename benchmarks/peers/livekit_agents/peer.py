"""The least script with livekit-agents that does what the runner does, written by hand.

``python peer.py SOCKET`` takes calls at a socket, ``python peer.py room NAME`` in the rooms of a
LiveKit server. BENCH_SETTINGS is JSON: the providers' addresses and names, ``instructions``, and
``turn``: null for livekit-agents' own defaults, or the seconds of silence that end speech and a
turn.
"""

import asyncio
import json
import math
import os
import sys

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    ConversationItemAddedEvent,
    JobContext,
    inference,
    llm,
)
from livekit.plugins import openai

from runner.bench.session_io import connect, listen
from runner.bench.wire import Line, answer

SETTINGS = json.loads(os.environ["BENCH_SETTINGS"])
KEY = "none"  # the client wants one
PATIENCE_S = 60


def turn_handling() -> dict[str, object]:
    """Pinned to voice activity, as in every arm; the rest is the default unless it is given."""
    if not SETTINGS["turn"]:
        return {"turn_detection": "vad", "interruption": {"mode": "vad"}}
    return {
        "turn_detection": "vad",
        "interruption": {"mode": "vad"},
        "endpointing": {"mode": "fixed", "min_delay": SETTINGS["turn"]["endpointing_delay_s"]},
        "preemptive_generation": {"enabled": True, "preemptive_tts": True},
    }


def voice_detector() -> inference.VAD:
    """The bundled one."""
    if not SETTINGS["turn"]:
        return inference.VAD(model="silero")
    silence_s = SETTINGS["turn"]["vad_silence_s"]
    return inference.VAD(model="silero", min_silence_duration=silence_s)


def new_session() -> AgentSession:
    """STT, LLM and TTS at the addresses of the settings."""
    stt, chat, tts = SETTINGS["stt"], SETTINGS["llm"], SETTINGS["tts"]
    return AgentSession(
        stt=openai.STT(model=stt["model"], base_url=stt["base_url"], api_key=KEY, language="en"),
        llm=openai.LLM(model=chat["model"], base_url=chat["base_url"], api_key=KEY),
        tts=openai.TTS(
            model=tts["model"],
            voice=tts["voice"],
            base_url=tts["base_url"],
            api_key=KEY,
            response_format="pcm",
        ),
        vad=voice_detector(),
        turn_handling=turn_handling(),
        user_away_timeout=None,
    )


async def call(line: Line) -> None:
    """One caller, until they hang up."""
    session = new_session()
    ear = connect(session, line)

    def said(event: ConversationItemAddedEvent) -> None:
        if isinstance(event.item, llm.ChatMessage):
            line.say(event.item.role, event.item.text_content or "")

    session.on("conversation_item_added", said)
    agent = Agent(instructions=SETTINGS["instructions"])
    await session.start(agent, record=False, session_host=False)
    await listen(line, ear)
    await session.aclose()


async def in_room(ctx: JobContext) -> None:
    """One caller in a room."""
    await ctx.connect()
    agent = Agent(instructions=SETTINGS["instructions"])
    await new_session().start(agent, room=ctx.room, record=False, session_host=False)


async def take_rooms(name: str) -> None:
    """As a worker called ``name``, at a port that is free. By default it would take no call while
    the machine is busy, as it is in a benchmark, and give up processes that start slowly then."""
    server = AgentServer(
        host="127.0.0.1",
        port=0,
        load_fnc=lambda _: 0.0,
        load_threshold=math.inf,
        initialize_process_timeout=PATIENCE_S,
    )
    server.rtc_session(in_room, agent_name=name)
    await server.run()


if __name__ == "__main__":
    asyncio.run(take_rooms(sys.argv[2]) if sys.argv[1] == "room" else answer(sys.argv[1], call))
