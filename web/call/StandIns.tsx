import { useEffect, useState } from "react";
import { RUNNER_GONE } from "./notices";

const REFRESH_MS = 15_000;

interface StandIn {
  for: string;
  provider: string;
  instead_of: string[];
  reason: string;
}

/** What `GET /api/status` answers, or why there is none. */
interface Status {
  stand_ins?: StandIn[];
  notes?: string[];
  error?: string;
}

function useStatus(): Status {
  const [status, setStatus] = useState<Status>({});
  useEffect(() => {
    const refresh = async () => {
      if (document.hidden) return;
      try {
        const answer = await fetch("/api/status");
        setStatus(await answer.json());
      } catch {
        setStatus({ error: RUNNER_GONE });
      }
    };
    void refresh();
    const timer = setInterval(refresh, REFRESH_MS);
    return () => clearInterval(timer);
  }, []);
  return status;
}

/** What stands in for what, and why. */
export function StandIns() {
  const { stand_ins, notes = [], error } = useStatus();
  return (
    <aside className="standins" aria-labelledby="standins" data-testid="standins">
      <h2 id="standins">Standing in</h2>
      {error && <p>{error}</p>}
      {stand_ins?.length === 0 && <p>Nothing: every part is the one that was asked for.</p>}
      <ul>
        {stand_ins?.map((one) => (
          <li key={one.for}>
            <h3>{one.for}</h3>
            <p>
              <b>{one.provider}</b>
              {one.instead_of.length > 0 && <> instead of {one.instead_of.join(", ")}</>}
            </p>
            <p className="reason">{one.reason}</p>
          </li>
        ))}
      </ul>
      {notes.map((note) => (
        <p key={note} className="reason">
          {note}
        </p>
      ))}
    </aside>
  );
}
