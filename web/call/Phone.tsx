"use client";

import { RoomContext } from "@livekit/components-react";
import { LogLevel, Room, RoomEvent, setLogLevel } from "livekit-client";
import { useRef, useState } from "react";
import { Call } from "./Call";
import type { Line } from "./lines";
import { Microphone } from "./Microphone";
import { Notices } from "./Notices";
import { ending, failure, Refused } from "./notices";
import { StandIns } from "./StandIns";
import { Transcript } from "./Transcript";

setLogLevel(LogLevel.warn);

/** A token for one call, by LiveKit's TokenSource contract. LiveKit's own client of it would hide
 * the sentence of a refusal, and ask for a token on every visit. */
async function requestAccess(): Promise<{ server_url: string; participant_token: string }> {
  const answer = await fetch("/api/token", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: "{}",
  });
  const body = await answer.json();
  if (!answer.ok) throw new Refused(body.error);
  return body;
}

export function Phone() {
  const [room, setRoom] = useState<Room | null>(null);
  const [device, setDevice] = useState("");
  const [trouble, setTrouble] = useState<string | null>(null);
  const [lines, setLines] = useState<Line[]>([]);
  const [called, setCalled] = useState(false); // once a call is over, its button has the focus
  const dialled = useRef<Room | null>(null);

  function end(sentence: string | null) {
    dialled.current = null;
    setTrouble(sentence);
    setRoom(null);
  }

  async function call() {
    const room = new Room({ audioCaptureDefaults: { deviceId: device || "default" } });
    dialled.current = room;
    setTrouble(null);
    setLines([]);
    setCalled(true);
    setRoom(room);
    try {
      const access = await requestAccess();
      if (dialled.current !== room) return; // hung up while the token was on its way
      await room.connect(access.server_url, access.participant_token);
      room.on(RoomEvent.Disconnected, (reason) => {
        if (dialled.current === room) end(ending(reason));
      });
    } catch (error) {
      if (dialled.current === room) end(failure(error));
    }
  }

  function hangUp() {
    end(null);
    void room?.disconnect();
  }

  return (
    <div className="page">
      <header>
        <h1>Voice agent</h1>
        <p className="lead">Call, ask by voice or by text, and hear what the documents say.</p>
      </header>
      <main>
        {room ? (
          <RoomContext.Provider value={room}>
            <Call device={device} onDevice={setDevice} onLines={setLines} onHangUp={hangUp} />
          </RoomContext.Provider>
        ) : (
          <section className="idle" aria-label="Before the call">
            <button
              type="button"
              className="dial"
              data-testid="call"
              autoFocus={called}
              onClick={call}
            >
              Call
            </button>
            <Microphone device={device} onChoose={setDevice} onTrouble={setTrouble} />
            <Notices sentences={[trouble]} />
            {lines.length > 0 && (
              <>
                <h2>Your last call</h2>
                <Transcript lines={lines} />
              </>
            )}
          </section>
        )}
      </main>
      <StandIns />
    </div>
  );
}
