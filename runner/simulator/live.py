"""Google's Live API on the wire: a websocket over TLS, speech in and speech out.

A connection counts as a request of the script, and so does each answer in it: with a greeting,
``at: [2]`` strikes in the midst of the greeting. ``refuse`` closes the other port alone. What the
other faults look like here:

=============  ==========================================  ====================================
kind           at a connection                             in an answer
=============  ==========================================  ====================================
status         the handshake is answered with it           close: 1007 for 400, 1008 for 401 to
                                                           404, else 1011
hang           the setup is never answered                 no answer
stall_after    as hang                                     it stops
cut            reset                                       reset
truncate       close 1000                                  close 1000
error_chunk    close 1011                                  close 1011
malformed      no JSON                                     no JSON
go_away        goAway after the setup                      goAway, then close 1000
empty                                                      a turn without a word
=============  ==========================================  ====================================
"""

import asyncio
import base64
import binascii
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import WSMsgType, web

from runner.config import Fault, ToolAnswer
from runner.simulator import google
from runner.simulator.answers import Message, choose, said, size, tokens, told_to_go_on
from runner.simulator.certificate import server_context
from runner.simulator.ears import Ears
from runner.simulator.exchange import Exchange, Refusal, State
from runner.simulator.sound import tone

HOST = "127.0.0.1"
_PATH = "/ws/google.ai.generativelanguage.{version}.GenerativeService.BidiGenerateContent"
_RATE_HZ = 24_000
_TOKEN_S = 0.15  # of sound for each token
_FRAME_BYTES = 2**20
_SETUP_S = 10.0
_GO_AWAY_S = 0.2  # what is left when goAway is said
_DEFAULT_TRANSCRIPT = "When does the library open?"
_CLOSE_OF = {400: 1007, 401: 1008, 403: 1008, 404: 1008}


@asynccontextmanager
async def tls(state: State) -> AsyncIterator[int]:
    """The Live API on the server's ``tls_port``, for as long as the block; gives the port."""
    live = Live(state)
    app = web.Application()
    for prefix in ("", "/"):  # the SDK doubles the slash where the base URL ends in one
        app.router.add_get(prefix + _PATH, live.serve)
    app.router.add_get("/{version:v1|v1beta}/models/{model}", live.show)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    try:
        context = server_context(HOST, state.server.certificate)
        await web.TCPSite(runner, HOST, state.server.tls_port, ssl_context=context).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class Live:
    """The sessions of one server. A session outlives its connection by its handle."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._left: dict[str, list[Message]] = {}

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One connection."""
        async with self._state.exchange(request) as exchange:
            try:
                await exchange.begin()
            except Refusal as refusal:
                exchange.entry.status = refusal.status
                return google.refused(refusal)
            socket = web.WebSocketResponse(max_msg_size=_FRAME_BYTES)
            await socket.prepare(request)
            connection = Connection(exchange, socket, self._left)
            try:
                if await connection.set_up():
                    await connection.listen()
            finally:
                await connection.stop()
            return socket

    async def show(self, request: web.Request) -> web.StreamResponse:
        """What the server says of a model; probes ask here."""
        try:
            return await google.show(self._state, request)
        except Refusal as refusal:
            return google.refused(refusal)


class Connection:
    """One websocket: what was said in it, and the answer that is being given."""

    def __init__(
        self, exchange: Exchange, socket: web.WebSocketResponse, left: dict[str, list[Message]]
    ) -> None:
        self._exchange = exchange
        self._state = exchange.state
        self._socket = socket
        self._left = left
        self._setup: dict[str, Any] = {}
        self._said: list[Message] = []
        self._answering: asyncio.Task[None] | None = None
        self._ears = Ears()
        self._heard = 0

    async def set_up(self) -> bool:
        """The handshake; whether a session came of it."""
        first = await self._socket.receive(timeout=_SETUP_S)
        if first.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            return False
        self._setup = json.loads(first.data).get("setup") or {}
        self._exchange.entry.asked = [message.text for message in self._instructions]
        if fault := self._exchange.fault:
            if fault.kind == "go_away":
                await self._send(setupComplete={})
            return await self._break(self._exchange, fault)
        try:
            google.check_key(self._state.server, self._exchange.request)
        except Refusal as refusal:
            await self._socket.close(code=1007, message=refusal.message.encode())
            return False
        model = str(self._setup.get("model", "")).removeprefix("models/")
        if model not in self._state.server.models:
            missing = google.not_found(model, "bidiGenerateContent")
            await self._socket.close(code=1008, message=missing.message.encode())
            return False
        handle = _get(_get(self._setup, "sessionResumption"), "handle")
        self._said = list(self._left.get(handle, []))
        await self._send(setupComplete={})
        return True

    async def listen(self) -> None:
        """What the client sends, until one of the two closes."""
        async for message in self._socket:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                continue
            sent = json.loads(message.data)
            if content := _get(sent, "clientContent"):
                self._said += google.messages(content)
                if _get(content, "turnComplete"):
                    await self._answer()
            elif answered := _get(sent, "toolResponse"):
                results = _get(answered, "functionResponses") or []
                self._said += [Message("tool", json.dumps(one.get("response"))) for one in results]
                await self._answer()
            elif heard := _get(sent, "realtimeInput"):
                await self._hear(heard)

    async def stop(self) -> None:
        """No more is said."""
        if self._answering is not None:
            self._answering.cancel()
            with suppress(asyncio.CancelledError):
                await self._answering
            self._answering = None

    @property
    def _instructions(self) -> list[Message]:
        return google.messages({"systemInstruction": _get(self._setup, "systemInstruction")})

    async def _hear(self, sent: dict[str, Any]) -> None:
        """Speech: its beginning interrupts, its end is answered."""
        audio = _get(sent, "audio") or {}
        try:
            samples = base64.b64decode(audio.get("data", ""), altchars=b"-_")
        except binascii.Error:
            return
        match self._ears.hear(samples):
            case "began" if self._answering is not None and not self._answering.done():
                await self.stop()
                await self._send(serverContent={"interrupted": True})
                await self._send(serverContent={"turnComplete": True})
            case "ended":
                transcripts = self._state.server.transcripts or [_DEFAULT_TRANSCRIPT]
                text = transcripts[self._heard % len(transcripts)]
                self._heard += 1
                self._said.append(Message("user", text))
                await self._send(serverContent={"inputTranscription": {"text": text}})
                await self._answer()

    async def _answer(self) -> None:
        await self.stop()
        self._answering = asyncio.create_task(self._speak())

    async def _speak(self) -> None:
        """One answer, as an exchange of its own."""
        async with self._state.exchange(self._exchange.request) as exchange:
            exchange.entry.asked = [message.text for message in [*self._instructions, *self._said]]
            if fault := exchange.meets("hang"):
                await exchange.pause(fault)
            await exchange.until_first()
            answer = choose(self._state.server, self._said, google.tool_names(self._setup))
            if isinstance(answer, ToolAnswer):
                call = {"name": answer.tool, "args": answer.arguments}
                call_id = f"{self._state.name}-{exchange.entry.number}"
                await self._send(toolCall={"functionCalls": [{"id": call_id, **call}]})
                if exchange.fault:
                    await self._break(exchange, exchange.fault)
                return
            if (spoken := said(self._said)) is not None:
                answer = told_to_go_on(answer, spoken, self._state.server.manners)
            if await self._say(exchange, answer):
                await self._end(exchange, answer)

    async def _say(self, exchange: Exchange, answer: str) -> bool:
        """The words with their sound; whether all of them were said."""
        if exchange.meets("empty"):
            exchange.strike()
            return True
        fault = exchange.fault
        loop = asyncio.get_running_loop()
        due = loop.time()
        for at, token in enumerate(tokens(answer)):
            if fault and at == fault.after and not await self._break(exchange, fault):
                return False
            await asyncio.sleep(max(0.0, due - loop.time()))
            due = max(due, loop.time()) + self._state.pace.token_s()
            await self._send(serverContent={**_sound(), "outputTranscription": {"text": token}})
            exchange.sent()
        return True

    async def _end(self, exchange: Exchange, answer: str) -> None:
        """The answer is over, and the session can be resumed from here."""
        self._said.append(Message("assistant", answer))
        handle = secrets.token_hex(8)
        self._left[handle] = list(self._said)
        count = google.usage(size(self._said), exchange.entry.tokens, answer="response")
        await self._send(serverContent={"generationComplete": True})
        await self._send(serverContent={"turnComplete": True}, usageMetadata=count)
        await self._send(sessionResumptionUpdate={"newHandle": handle, "resumable": True})

    async def _break(self, exchange: Exchange, fault: Fault) -> bool:
        """What goes wrong; whether it goes on after that."""
        match fault.kind:
            case "hang" | "stall_after" | "keepalive_only":
                await exchange.pause(fault)
                return True
            case "cut":
                exchange.cut()
            case "malformed":
                await self._socket.send_str('{"serverContent": {')
            case "status":
                code = _CLOSE_OF.get(fault.status, 1011)
                await self._socket.close(code=code, message=b"The script says so (simulate).")
            case "go_away":
                await self._send(goAway={"timeLeft": f"{_GO_AWAY_S:g}s"})
                await asyncio.sleep(_GO_AWAY_S)
                await self._socket.close(code=1000)
            case "truncate":
                await self._socket.close(code=1000)
            case "error_chunk":
                await self._socket.close(code=1011, message=b"Internal error encountered.")
            case _:
                return True
        exchange.strike()
        return False

    async def _send(self, **message: Any) -> None:
        with suppress(ConnectionError):
            await self._socket.send_bytes(json.dumps(message).encode())  # binary, as Google's are


def _sound() -> dict[str, Any]:
    samples = tone(_RATE_HZ, int(_RATE_HZ * _TOKEN_S))
    data = base64.b64encode(samples).decode()
    part = {"inlineData": {"mimeType": f"audio/pcm;rate={_RATE_HZ}", "data": data}}
    return {"modelTurn": {"parts": [part]}}


def _get(sent: Any, key: str) -> Any:
    """A field by its name in camel case, or as the SDK also writes it."""
    if not isinstance(sent, dict):
        return None
    if key in sent:
        return sent[key]
    return sent.get("".join(f"_{c.lower()}" if c.isupper() else c for c in key))
