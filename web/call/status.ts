import { useEffect, useState } from "react";
import { RUNNER_GONE } from "./notices";

const REFRESH_MS = 15_000;

export interface StandIn {
  for: string;
  provider: string;
  instead_of: string[];
  reason: string;
}

/** What `GET /api/status` answers, or why there is none. `languages`: the runner's own first. */
export interface Status {
  stand_ins?: StandIn[];
  notes?: string[];
  languages?: string[];
  error?: string;
}

export function useStatus(): Status {
  const [status, setStatus] = useState<Status>({});
  useEffect(() => {
    const refresh = async () => {
      if (document.hidden) return;
      try {
        const answer = await fetch("/api/status");
        setStatus(await answer.json());
      } catch {
        setStatus((known) => ({ languages: known.languages, error: RUNNER_GONE }));
      }
    };
    void refresh();
    const timer = setInterval(refresh, REFRESH_MS);
    return () => clearInterval(timer);
  }, []);
  return status;
}
