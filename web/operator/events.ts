import { useEffect, useState } from "react";
import { useSWRConfig } from "swr";

/** Whether what is shown is what is: `lost` until the runner is there again. */
export type Link = "connecting" | "live" | "lost";

/** What each event brings, as the path that answers the same. */
const PATHS: Record<string, string> = {
  calls: "/api/calls",
  providers: "/api/providers",
  documents: "/api/documents",
  plots: "/api/plots?minutes=60",
};
export const SESSIONS_CHANGED = "sessions changed"; // a key of SWR's: how often so far

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 15_000;

/** Keeps what is on screen up to date by the server's events. A page that nobody sees is not fed;
 * after each connection, what is on screen is asked for once. */
export function useEvents(wanted: boolean): Link {
  const { mutate } = useSWRConfig();
  const [link, setLink] = useState<Link>("connecting");

  useEffect(() => {
    if (!wanted) return;
    let source: EventSource | null = null;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let pause_ms = FIRST_PAUSE_MS;

    function take(path: string, data: string) {
      const told: unknown = parsed(data);
      if (told === undefined) void mutate(path);
      else void mutate(path, told, { revalidate: false });
    }

    function open() {
      close();
      source = new EventSource("/api/events");
      source.onopen = () => {
        pause_ms = FIRST_PAUSE_MS;
        setLink("live");
        void mutate(() => true);
      };
      // A browser tries again by itself, but not after an answer that is no stream.
      source.onerror = () => {
        setLink("lost");
        void mutate("/api/calls"); // asks for the token where that is why
        close();
        timer = setTimeout(open, pause_ms * (0.75 + Math.random() / 2));
        pause_ms = Math.min(pause_ms * 2, LONGEST_PAUSE_MS);
      };
      for (const [name, path] of Object.entries(PATHS)) {
        source.addEventListener(name, ({ data }: MessageEvent<string>) => take(path, data));
      }
      source.addEventListener("sessions", () => {
        void mutate(SESSIONS_CHANGED, (count = 0) => Number(count) + 1, { revalidate: false });
      });
    }

    function close() {
      clearTimeout(timer);
      source?.close();
      source = null;
    }

    function seen() {
      if (document.hidden) close();
      else open();
    }

    seen();
    document.addEventListener("visibilitychange", seen);
    return () => {
      document.removeEventListener("visibilitychange", seen);
      close();
    };
  }, [wanted, mutate]);

  return link;
}

/** The JSON of an event; undefined where it says no more than that something changed. */
function parsed(data: string): unknown {
  try {
    const value: unknown = JSON.parse(data);
    const empty = value === null || (typeof value === "object" && Object.keys(value).length === 0);
    return empty && !Array.isArray(value) ? undefined : value;
  } catch {
    return undefined;
  }
}
