import { useEffect, useState } from "react";

/** The microphones that the browser tells of: while one is open, or was allowed, with their names.
 * `open`: told anew whenever it changes. */
function useMicrophones(open: unknown): MediaDeviceInfo[] {
  const [microphones, setMicrophones] = useState<MediaDeviceInfo[]>([]);
  useEffect(() => {
    const list = async () => {
      const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
      setMicrophones(devices.filter(({ kind, label }) => kind === "audioinput" && label));
    };
    void list();
    navigator.mediaDevices?.addEventListener("devicechange", list);
    return () => navigator.mediaDevices?.removeEventListener("devicechange", list);
  }, [open]);
  return microphones;
}

/** The choice of a microphone. */
export function Microphone({ device, open, onChoose }: {
  device: string;
  open: unknown;
  onChoose: (device: string) => void;
}) {
  const microphones = useMicrophones(open);
  return (
    <label className="choice">
      <span>Microphone</span>
      <select value={device} onChange={(event) => onChoose(event.target.value)}>
        {!microphones.some(({ deviceId }) => deviceId === "default") && (
          <option value="">System default</option>
        )}
        {microphones.map(({ deviceId, label }) => (
          <option key={deviceId} value={deviceId === "default" ? "" : deviceId}>
            {label}
          </option>
        ))}
      </select>
    </label>
  );
}
