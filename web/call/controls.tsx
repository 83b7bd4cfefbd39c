import { useLocalParticipant, useRoomContext } from "@livekit/components-react";
import { useEffect, useRef } from "react";
import { Microphone } from "./Microphone";
import { microphoneTrouble, type OnTrouble } from "./notices";

/** Turns the microphone on once the call stands, then off and on again. */
export function Mute({ connected, onTrouble }: { connected: boolean; onTrouble: OnTrouble }) {
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
    if (!connected || asked.current) return;
    asked.current = true;
    void turn(true);
  }, [connected]);
  return (
    <button
      type="button"
      data-testid="mute"
      aria-keyshortcuts="m"
      disabled={!connected}
      onClick={() => turn(!isMicrophoneEnabled)}
    >
      {isMicrophoneEnabled ? "Mute" : "Unmute"}
    </button>
  );
}

/** Changes the microphone of a call that is on. */
export function OpenMicrophone({ device, onDevice, onTrouble }: {
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
  return <Microphone device={device} open={microphoneTrack} onChoose={choose} />;
}
