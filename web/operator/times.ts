import { useEffect, useState } from "react";

const DAY_MS = 86_400_000;

/** The time of day, to the second; of another day the date and the minute. */
export function moment(iso: string | null | undefined): string {
  const at = new Date(iso ?? "");
  if (Number.isNaN(at.getTime())) return "–";
  if (at.toDateString() === new Date().toDateString()) {
    return at.toLocaleTimeString([], { timeStyle: "medium" });
  }
  return at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

/** "2:05", "1:02:05" or "3 d": from one time to another, or until `now`. */
export function lasted(from: string, until: string | number): string {
  const passed_ms = new Date(until).getTime() - new Date(from).getTime();
  if (!Number.isFinite(passed_ms)) return "–";
  if (passed_ms > 2 * DAY_MS) return `${Math.floor(passed_ms / DAY_MS)} d`;
  const whole_s = Math.max(0, Math.floor(passed_ms / 1000));
  const [hours, minutes, left] = [whole_s / 3600, (whole_s / 60) % 60, whole_s % 60].map(Math.floor);
  const pair = (count = 0) => String(count).padStart(2, "0");
  return hours ? `${hours}:${pair(minutes)}:${pair(left)}` : `${minutes}:${pair(left)}`;
}

/** "0.71 s", "143 ms"; a dash where nothing was measured. */
export function seconds(value: number | null | undefined): string {
  if (value == null) return "–";
  return value < 0.1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(2)} s`;
}

/** "3.4 MB". */
export function size(bytes: number | null | undefined): string {
  if (bytes == null) return "–";
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 999_500 ? `${Math.round(bytes / 1000)} kB` : `${Number((bytes / 1e6).toFixed(1))} MB`;
}

/** The present, anew each second while `running`. */
export function useNow(running = true): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!running) return;
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [running]);
  return now;
}
