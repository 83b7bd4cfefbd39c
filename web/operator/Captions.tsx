import { useEffect, useRef, useState } from "react";
import { part } from "./api";
import { Nothing } from "./Loaded";
import { to } from "./route";
import { Said } from "./Said";
import type { Call, Caption } from "./shapes";

const KEPT = 500; // lines of one call
const NEAR_PX = 80; // closer to the end than this, the reader follows what is said

/** What is said in a call from now on. */
export function Captions({ room, call }: { room: string; call: Call | null }) {
  const lines = useCaptions(room);
  const box = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const session = useRef(call?.session_id);
  session.current = call?.session_id ?? session.current;

  useEffect(() => {
    if (box.current && follows.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);

  return (
    <section className="card captions" aria-label={`Captions of ${call?.caller ?? room}`}>
      <div className="line">
        <h2>{call?.caller ?? room}</h2>
        <a className="end" href={to("calls")}>
          Close
        </a>
      </div>
      {!call && (
        <p className="notice">
          This call is over.{" "}
          {session.current && <a href={to("sessions", session.current)}>Read all of it</a>}
        </p>
      )}
      {lines.length === 0 && call && (
        <Nothing title="Nothing was said since you opened it.">
          What was said before is in{" "}
          {call.session_id ? <a href={to("sessions", call.session_id)}>its session</a> : "its session"}
          .
        </Nothing>
      )}
      <div
        ref={box}
        className="log"
        role="log"
        aria-label="Captions"
        tabIndex={0}
        hidden={lines.length === 0}
        onScroll={({ currentTarget: list }) => {
          follows.current = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_PX;
        }}
      >
        <ol className="said">
          {lines.map((line, at) => (
            <Said key={at} role={line.role} text={line.text} told={line} />
          ))}
        </ol>
      </div>
    </section>
  );
}

function useCaptions(room: string): Caption[] {
  const [lines, setLines] = useState<Caption[]>([]);
  useEffect(() => {
    const source = new EventSource(`/api/calls/${part(room)}/captions`);
    source.onmessage = ({ data }: MessageEvent<string>) => {
      const line = parsed(data);
      if (line) setLines((before) => [...before.slice(1 - KEPT), line]);
    };
    return () => source.close();
  }, [room]);
  return lines;
}

function parsed(data: string): Caption | null {
  try {
    const line: Partial<Caption> = JSON.parse(data);
    return typeof line.text === "string" && line.text ? (line as Caption) : null;
  } catch {
    return null;
  }
}
