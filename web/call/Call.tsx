import {
  RoomAudioRenderer,
  useAudioPlayback,
  useChat,
  useConnectionState,
  useLocalParticipant,
  useRoomContext,
  useVoiceAssistant,
} from "@livekit/components-react";
import { ConnectionState } from "livekit-client";
import { type SubmitEvent, useEffect, useMemo, useRef, useState } from "react";
import { type Line, useLines } from "./lines";
import { Microphone } from "./Microphone";
import { Notices } from "./Notices";
import {
  AGENT_LEFT,
  AGENT_LOST,
  microphoneTrouble,
  NO_AGENT,
  NOT_SENT,
  type OnTrouble,
  RECONNECTING,
} from "./notices";
import { Transcript } from "./Transcript";

const AGENT_DEADLINE_MS = 4_500; // with the time to connect, five seconds after the press

/** A call from the moment it is dialled. `earlier`: its transcript from before it was cut off;
 * `onLines` is told of the whole as it grows. */
export function Call({ device, earlier, onDevice, onLines, onHangUp }: {
  device: string;
  earlier: Line[];
  onDevice: (device: string) => void;
  onLines: (lines: Line[]) => void;
  onHangUp: () => void;
}) {
  const connection = useConnectionState();
  const { agent, state } = useVoiceAssistant();
  const absence = useAbsence(connection === ConnectionState.Connected, !!agent);
  const [trouble, setTrouble] = useState<string | null>(null);
  const { canPlayAudio, startAudio } = useAudioPlayback();
  const spoken = useLines();
  const lines = useMemo(() => [...earlier, ...spoken], [earlier, spoken]);
  useEffect(() => onLines(lines), [lines, onLines]);

  const reconnecting =
    connection === ConnectionState.Reconnecting ||
    connection === ConnectionState.SignalReconnecting;
  return (
    <section className="call" aria-label="Call">
      <RoomAudioRenderer />
      <AgentState state={reconnecting ? "reconnecting" : absence ? "absent" : state} />
      <Notices sentences={[reconnecting ? RECONNECTING : absence, trouble]}>
        {!canPlayAudio && (
          <button type="button" onClick={startAudio}>
            Let the agent be heard
          </button>
        )}
      </Notices>
      <Transcript lines={lines} />
      <Typing ready={connection === ConnectionState.Connected && !!agent} onTrouble={setTrouble} />
      <div className="controls">
        <Mute connection={connection} onTrouble={setTrouble} />
        <OpenMicrophone device={device} onDevice={onDevice} onTrouble={setTrouble} />
        <button type="button" className="hangup" data-testid="hangup" onClick={onHangUp}>
          Hang up
        </button>
      </div>
    </section>
  );
}

/** A sentence when the agent did not come in time, or went away; null while all is well. */
function useAbsence(connected: boolean, present: boolean): string | null {
  const [late, setLate] = useState(false);
  const [met, setMet] = useState(false);
  useEffect(() => {
    if (present) setMet(true);
    if (present || !connected) return;
    const timer = setTimeout(() => setLate(true), AGENT_DEADLINE_MS);
    return () => {
      clearTimeout(timer);
      setLate(false);
    };
  }, [connected, present]);
  if (present || !connected) return null;
  if (!late) return met ? AGENT_LOST : null;
  return met ? AGENT_LEFT : NO_AGENT;
}

const LABELS: Record<string, string> = {
  listening: "Listening",
  thinking: "Thinking",
  speaking: "Speaking",
  reconnecting: "Reconnecting …",
  absent: "Nobody there",
};

function AgentState({ state }: { state: string }) {
  const label = useRef<HTMLParagraphElement>(null);
  useEffect(() => label.current?.focus(), []); // the button that had the focus is gone
  return (
    <div className="agent" data-state={state}>
      <span className="orb" aria-hidden="true" />
      <p ref={label} tabIndex={-1} data-testid="state" data-state={state} aria-live="polite">
        {LABELS[state] ?? "Connecting …"}
      </p>
    </div>
  );
}

/** Turns the microphone on once the call stands, then off and on again. */
function Mute({ connection, onTrouble }: {
  connection: ConnectionState;
  onTrouble: OnTrouble;
}) {
  const { localParticipant, isMicrophoneEnabled } = useLocalParticipant();
  const asked = useRef(false);
  const turn = async (on: boolean) => {
    try {
      await localParticipant.setMicrophoneEnabled(on);
      onTrouble(null);
    } catch (error) {
      onTrouble(microphoneTrouble(error, "Unmute"));
    }
  };
  useEffect(() => {
    if (connection !== ConnectionState.Connected || asked.current) return;
    asked.current = true;
    void turn(true);
  }, [connection]);
  return (
    <button
      type="button"
      data-testid="mute"
      disabled={connection !== ConnectionState.Connected}
      onClick={() => turn(!isMicrophoneEnabled)}
    >
      {isMicrophoneEnabled ? "Mute" : "Unmute"}
    </button>
  );
}

/** Changes the microphone of a call that is on. */
function OpenMicrophone({ device, onDevice, onTrouble }: {
  device: string;
  onDevice: (device: string) => void;
  onTrouble: OnTrouble;
}) {
  const room = useRoomContext();
  const { microphoneTrack } = useLocalParticipant();
  async function choose(chosen: string) {
    onDevice(chosen);
    try {
      await room.switchActiveDevice("audioinput", chosen || "default");
      onTrouble(null);
    } catch (error) {
      onTrouble(microphoneTrouble(error, "Unmute"));
    }
  }
  return (
    <Microphone
      device={device}
      onChoose={choose}
      onTrouble={onTrouble}
      open={!!microphoneTrack}
    />
  );
}

/** Text instead of speech. */
function Typing({ ready, onTrouble }: {
  ready: boolean;
  onTrouble: OnTrouble;
}) {
  const { send, isSending } = useChat();
  const [text, setText] = useState("");
  async function submit(event: SubmitEvent) {
    event.preventDefault();
    if (!text.trim()) return;
    try {
      await send(text.trim());
      setText("");
    } catch {
      onTrouble(NOT_SENT);
    }
  }
  return (
    <form className="typing" onSubmit={submit}>
      <input
        data-testid="chat-input"
        aria-label="Message"
        placeholder="Or type a message"
        autoComplete="off"
        maxLength={2000}
        value={text}
        disabled={!ready}
        onChange={(event) => setText(event.target.value)}
      />
      <button type="submit" disabled={!ready || isSending || !text.trim()}>
        Send
      </button>
    </form>
  );
}
