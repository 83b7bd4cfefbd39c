import { useEffect, useState } from "react";
import { microphoneTrouble, type OnTrouble } from "./notices";

/** The microphones that the browser tells of. Their names are empty until it has permission. */
function useMicrophones(): [MediaDeviceInfo[], () => Promise<void>] {
  const [microphones, setMicrophones] = useState<MediaDeviceInfo[]>([]);
  const list = async () => {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    setMicrophones(devices.filter(({ kind }) => kind === "audioinput"));
  };
  useEffect(() => {
    void list();
    navigator.mediaDevices?.addEventListener("devicechange", list);
    return () => navigator.mediaDevices?.removeEventListener("devicechange", list);
  }, []);
  return [microphones, list];
}

/** The choice of a microphone. `open`: whether one is in use, during a call. */
export function Microphone({ device, onChoose, onTrouble, open }: {
  device: string;
  onChoose: (device: string) => void;
  onTrouble: OnTrouble;
  open?: boolean;
}) {
  const [microphones, list] = useMicrophones();
  useEffect(() => void list(), [open]);

  async function askForNames() {
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
      await list(); // before the stream stops: Firefox tells names only while one is open
      stream.getTracks().forEach((track) => track.stop());
      onTrouble(null);
    } catch (error) {
      onTrouble(microphoneTrouble(error, "Show my microphones"));
    }
  }

  const named = microphones.filter(({ label }) => label);
  return (
    <div className="microphone">
      <label>
        <span>Microphone</span>
        <select value={device} onChange={(event) => onChoose(event.target.value)}>
          {!named.some(({ deviceId }) => deviceId === "default") && (
            <option value="">System default</option>
          )}
          {named.map(({ deviceId, label }) => (
            <option key={deviceId} value={deviceId === "default" ? "" : deviceId}>
              {label}
            </option>
          ))}
        </select>
      </label>
      {open === undefined && named.length === 0 && (
        <button type="button" className="link" onClick={askForNames}>
          Show my microphones
        </button>
      )}
    </div>
  );
}
