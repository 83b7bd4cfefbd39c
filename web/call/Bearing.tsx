import {
  useConnectionQualityIndicator,
  useIsSpeaking,
  useLocalParticipant,
  useTrackVolume,
} from "@livekit/components-react";
import { ConnectionQuality, type LocalAudioTrack } from "livekit-client";
import { useEffect, useRef, useState } from "react";
import { clock } from "./record";

const LABELS: Record<string, string> = {
  listening: "Listening",
  thinking: "Thinking",
  speaking: "Speaking",
  reconnecting: "Reconnecting …",
  absent: "Nobody there",
};

/** How the call stands: what the agent does, who speaks, how long and how well. */
export function Bearing({ state, began }: { state: string; began: Date | null }) {
  const label = useRef<HTMLParagraphElement>(null);
  useEffect(() => label.current?.focus(), []); // the button that had the focus is gone
  return (
    <div className="bearing" data-state={state}>
      <span className="orb" aria-hidden="true" />
      <div className="agent">
        <p ref={label} tabIndex={-1} data-testid="state" data-state={state} aria-live="polite">
          {LABELS[state] ?? "Connecting …"}
        </p>
        <You />
      </div>
      <div className="line">
        {began && <Duration began={began} />}
        <Quality />
      </div>
    </div>
  );
}

/** Whether the caller is heard. */
function You() {
  const { localParticipant, microphoneTrack, isMicrophoneEnabled } = useLocalParticipant();
  const speaking = useIsSpeaking(localParticipant);
  const track = microphoneTrack?.track as LocalAudioTrack | undefined;
  const volume = useTrackVolume(isMicrophoneEnabled ? track : undefined);
  const level = useRef<HTMLSpanElement>(null);
  useEffect(() => level.current?.style.setProperty("--level", Math.min(1, volume * 2).toFixed(2)));
  const said = !track ? "no microphone" : !isMicrophoneEnabled ? "muted" : "";
  return (
    <p className="you" data-testid="you" data-speaking={speaking}>
      <span>{speaking ? "You are speaking" : `You${said && `: ${said}`}`}</span>
      {!said && <span ref={level} className="volume" aria-hidden="true" />}
    </p>
  );
}

function Duration({ began }: { began: Date }) {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return (
    <span className="duration" role="timer" aria-label="Duration of the call">
      {clock(Math.max(0, now - began.getTime()) / 1000)}
    </span>
  );
}

const QUALITIES: Record<ConnectionQuality, string> = {
  [ConnectionQuality.Excellent]: "Excellent",
  [ConnectionQuality.Good]: "Good",
  [ConnectionQuality.Poor]: "Poor",
  [ConnectionQuality.Lost]: "Lost",
  [ConnectionQuality.Unknown]: "",
};

/** How well the line carries sound. */
function Quality() {
  const { localParticipant } = useLocalParticipant();
  const { quality } = useConnectionQualityIndicator({ participant: localParticipant });
  if (!QUALITIES[quality]) return null;
  return (
    <span className="quality" data-quality={quality} data-testid="quality">
      <span className="bars" aria-hidden="true">
        <i />
        <i />
        <i />
      </span>
      <span>
        <span className="visually-hidden">Connection: </span>
        {QUALITIES[quality]}
      </span>
    </span>
  );
}
