import {
  RoomAudioRenderer,
  useAudioPlayback,
  useConnectionState,
  useVoiceAssistant,
} from "@livekit/components-react";
import { ConnectionState } from "livekit-client";
import { useEffect, useMemo, useRef, useState } from "react";
import { Bearing } from "./Bearing";
import { Mute, OpenMicrophone } from "./controls";
import { useKeys } from "./keys";
import { type Line, useLines } from "./lines";
import { Notices } from "./Notices";
import { AGENT_LEFT, AGENT_LOST, NO_AGENT, RECONNECTING } from "./notices";
import { Transcript } from "./Transcript";
import { Typing } from "./Typing";

const AGENT_DEADLINE_MS = 4_500; // with the time to connect, five seconds after the press

/** What is seen and pressed while a call is on. `earlier`: its transcript from before it was cut
 * off; `onLines` is told of the whole as it grows. */
export function Talk({ device, began, earlier, onBegin, onDevice, onLines, onHangUp }: {
  device: string;
  began: Date | null;
  earlier: Line[];
  onBegin: () => void;
  onDevice: (device: string) => void;
  onLines: (lines: Line[]) => void;
  onHangUp: () => void;
}) {
  const connection = useConnectionState();
  const { agent, state } = useVoiceAssistant();
  const connected = connection === ConnectionState.Connected;
  const absence = useAbsence(connected, !!agent);
  const [trouble, setTrouble] = useState<string | null>(null);
  const { canPlayAudio, startAudio } = useAudioPlayback();
  const spoken = useLines();
  const lines = useMemo(() => [...earlier, ...spoken], [earlier, spoken]);
  const panel = useRef<HTMLElement>(null);
  useKeys(panel);
  useEffect(() => onLines(lines), [lines]);
  useEffect(() => {
    if (connected) onBegin();
  }, [connected]);

  const reconnecting =
    connection === ConnectionState.Reconnecting ||
    connection === ConnectionState.SignalReconnecting;
  return (
    <section className="call" aria-label="Call" ref={panel}>
      <RoomAudioRenderer />
      <Bearing state={reconnecting ? "reconnecting" : absence ? "absent" : state} began={began} />
      <Notices sentences={[reconnecting ? RECONNECTING : absence, trouble]}>
        {!canPlayAudio && (
          <button type="button" onClick={startAudio}>
            Let the agent be heard
          </button>
        )}
      </Notices>
      <Transcript lines={lines} />
      <Typing ready={connected && !!agent} onTrouble={setTrouble} />
      <div className="controls">
        <Mute connected={connected} onTrouble={setTrouble} />
        <OpenMicrophone device={device} onDevice={onDevice} onTrouble={setTrouble} />
        <button type="button" className="hangup" data-testid="hangup" onClick={onHangUp}>
          Hang up
        </button>
      </div>
      <p className="keys">
        <kbd>M</kbd> mutes and unmutes, <kbd>T</kbd> goes to the message, <kbd>Enter</kbd> sends it
      </p>
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
