import { LogLevel, Room, RoomEvent, setLogLevel } from "livekit-client";
import { broken } from "./broken";
import { cutOff, ending, failure, Refused } from "./endings";

setLogLevel(LogLevel.warn);

const REDIALS_MS = [0, 1_000, 3_000, 6_000];

/** What the caller chose; "" leaves it to the browser, or to the runner. */
export interface Choice {
  device: string;
  language: string;
}

/** Told of each room that is dialled, and once why the call is over; null: the caller broke off. */
export interface Told {
  onRoom: (room: Room) => void;
  onEnd: (sentence: string | null) => void;
}

/** Calls, and dials again a call that was cut off; the answer leaves it. A call that was broken off
 * with this page is gone on with, unless it was forgotten. */
export function dial(choice: Choice, { onRoom, onEnd }: Told): () => void {
  let dialled: Room | null = null; // of several the last one

  function end(sentence: string | null) {
    dialled = null;
    broken.forget();
    onEnd(sentence);
  }

  async function attempt(count: number) {
    const room = new Room({
      audioCaptureDefaults: { deviceId: choice.device || "default" },
      disconnectOnPageLeave: false, // nobody hangs up by a reload
    });
    dialled = room;
    onRoom(room);
    try {
      if (count) await new Promise((wake) => setTimeout(wake, REDIALS_MS[count]));
      const access = await requestAccess(broken.token(), choice.language);
      if (dialled !== room) return; // hung up while the token was on its way
      await room.connect(access.server_url, access.participant_token);
      broken.keep(access.participant_token);
      room.on(RoomEvent.Disconnected, (reason) => {
        if (dialled !== room) return;
        if (cutOff(reason)) void attempt(0);
        else end(ending(reason));
      });
    } catch (error) {
      if (dialled !== room) return;
      const again = broken.token() && !(error instanceof Refused);
      if (again && count + 1 < REDIALS_MS.length) void attempt(count + 1);
      else end(failure(error));
    }
  }

  void attempt(0);
  return () => {
    const room = dialled;
    dialled = null;
    void room?.disconnect();
  };
}

/** A token for one call, by LiveKit's TokenSource contract; `resume`: for the call of an earlier
 * token. LiveKit's own client of it would hide the sentence of a refusal, and ask for a token on
 * every visit. */
async function requestAccess(
  resume: string | null,
  language: string,
): Promise<{ server_url: string; participant_token: string }> {
  const wish = language ? { participant_attributes: { language } } : {};
  const answer = await fetch("/api/token", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(resume ? { resume } : wish),
  });
  const body = await answer.json();
  if (!answer.ok) throw new Refused(body.error);
  return body;
}
