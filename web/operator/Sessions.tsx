import { useDeferredValue, useEffect, useState } from "react";
import useSWR from "swr";
import { part } from "./api";
import { Badge } from "./Badge";
import { SESSIONS_CHANGED } from "./events";
import { Loaded, Nothing } from "./Loaded";
import { More } from "./More";
import { usePages } from "./pages";
import { Replay } from "./Replay";
import { to } from "./route";
import type { SectionProps } from "./section";
import type { Session } from "./shapes";
import { lasted, moment, useNow } from "./times";

interface Page {
  sessions: Session[];
  next: number | null;
}

const PAGE = 50;
const PAUSE_MS = 250; // of typing, after which is searched

export default function Sessions({ open }: SectionProps) {
  return open === null ? <List /> : <Replay id={open} />;
}

function List() {
  const [search, setSearch] = useState("");
  const wanted = useDeferredValue(useSettled(search));
  const { list, busy, onFirst, again, more } = usePages<Page>(
    `/api/sessions?search=${part(wanted)}&limit=${PAGE}`,
  );
  const changes = useSWR<number>(SESSIONS_CHANGED, null).data;
  useEffect(() => {
    if (changes && onFirst) again(); // who has paged on reads older ones: those stay
  }, [changes]);

  return (
    <>
      <form role="search" className="tools" onSubmit={(event) => event.preventDefault()}>
        <label>
          <span className="visually-hidden">Search the sessions</span>
          <input
            type="search"
            placeholder="Words that were said, a caller, a room, a provider"
            value={search}
            onChange={(event) => setSearch(event.target.value)}
          />
        </label>
      </form>
      <Loaded from={list}>
        {(pages) => <Found sessions={pages.flatMap((page) => page.sessions)} searched={wanted} />}
      </Loaded>
      <More more={more} busy={busy} />
    </>
  );
}

function Found({ sessions, searched }: { sessions: Session[]; searched: string }) {
  const now = useNow(sessions.some(({ ended_at }) => ended_at === null));
  if (sessions.length === 0) {
    return searched ? (
      <Nothing title="Nothing was found.">No session has “{searched}” in it.</Nothing>
    ) : (
      <Nothing title="There are no sessions yet.">The first call makes one.</Nothing>
    );
  }
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label="Sessions">
      <table>
        <thead>
          <tr>
            <th scope="col">Began</th>
            <th scope="col" className="number">
              Lasted
            </th>
            <th scope="col" className="spare">
              State
            </th>
            <th scope="col" className="number">
              Messages
            </th>
            <th scope="col">Provider</th>
            <th scope="col" className="spare">
              Language
            </th>
            <th scope="col">Caller</th>
          </tr>
        </thead>
        <tbody>
          {sessions.map((one) => (
            <tr key={one.id}>
              <th scope="row">
                <a href={to("sessions", one.session_id)}>{moment(one.began_at)}</a>
              </th>
              <td className="number">{lasted(one.began_at, one.ended_at ?? now)}</td>
              <td className="spare">
                <Badge state={one.status} tone={one.status === "active" ? "good" : "plain"} />
              </td>
              <td className="number">{one.messages}</td>
              <td>{one.provider ?? "–"}</td>
              <td className="spare">{one.language ?? "–"}</td>
              <td className="clip">{one.caller ?? one.room ?? "–"}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** `value` once it has not changed for a moment. */
function useSettled(value: string): string {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value.trim()), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}
