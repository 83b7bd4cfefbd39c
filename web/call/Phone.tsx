"use client";

import { RoomContext } from "@livekit/components-react";
import { LogLevel, Room, RoomEvent, setLogLevel } from "livekit-client";
import { useEffect, useRef, useState } from "react";
import { Call } from "./Call";
import type { Line } from "./lines";
import { Microphone } from "./Microphone";
import { Notices } from "./Notices";
import { cutOff, ending, failure, Refused } from "./notices";
import { StandIns } from "./StandIns";
import { Transcript } from "./Transcript";

setLogLevel(LogLevel.warn);

const CALL = "call"; // in the tab's storage: the token of a call that was not hung up
const REDIALS_MS = [0, 1_000, 3_000, 6_000];

/** A token for one call, by LiveKit's TokenSource contract; `resume`: for the call of an earlier
 * token. LiveKit's own client of it would hide the sentence of a refusal, and ask for a token on
 * every visit. */
async function requestAccess(
  resume: string | null,
): Promise<{ server_url: string; participant_token: string }> {
  const answer = await fetch("/api/token", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(resume ? { resume } : {}),
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
  const [earlier, setEarlier] = useState<Line[]>([]); // of this call, before it was cut off
  const [dials, setDials] = useState(0);
  const [broken, setBroken] = useState(false); // a call was on when this page was left
  const [called, setCalled] = useState(false); // once a call is over, its button has the focus
  const dialled = useRef<Room | null>(null);
  const latest = useRef<Line[]>([]);

  useEffect(() => setBroken(!!sessionStorage.getItem(CALL)), []);

  function end(sentence: string | null) {
    dialled.current = null;
    sessionStorage.removeItem(CALL);
    setBroken(false);
    setTrouble(sentence);
    setRoom(null);
  }

  function call() {
    sessionStorage.removeItem(CALL);
    setLines([]);
    setEarlier([]);
    return dial(0);
  }

  /** Enters the room of the call that was cut off, or a new one. */
  async function dial(attempt: number) {
    const room = new Room({
      audioCaptureDefaults: { deviceId: device || "default" },
      disconnectOnPageLeave: false, // nobody hangs up by a reload
    });
    dialled.current = room;
    setTrouble(null);
    setCalled(true);
    setDials((count) => count + 1);
    setRoom(room);
    try {
      if (attempt) await new Promise((wake) => setTimeout(wake, REDIALS_MS[attempt]));
      const access = await requestAccess(sessionStorage.getItem(CALL));
      if (dialled.current !== room) return; // hung up while the token was on its way
      await room.connect(access.server_url, access.participant_token);
      sessionStorage.setItem(CALL, access.participant_token);
      room.on(RoomEvent.Disconnected, (reason) => {
        if (dialled.current !== room) return;
        if (!cutOff(reason)) return end(ending(reason));
        setEarlier(latest.current);
        void dial(0);
      });
    } catch (error) {
      if (dialled.current !== room) return;
      const again = sessionStorage.getItem(CALL) && !(error instanceof Refused);
      if (again && attempt + 1 < REDIALS_MS.length) void dial(attempt + 1);
      else end(failure(error));
    }
  }

  function hear(lines: Line[]) {
    latest.current = lines;
    setLines(lines);
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
          <RoomContext.Provider key={dials} value={room}>
            <Call
              device={device}
              earlier={earlier}
              onDevice={setDevice}
              onLines={hear}
              onHangUp={hangUp}
            />
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
            {broken && (
              <button type="button" data-testid="resume" onClick={() => dial(0)}>
                Go on with your call
              </button>
            )}
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
