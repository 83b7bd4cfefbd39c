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
  const { whole, interim } = useCaptions(room);
  const lines = call ? [...whole, ...interim] : whole;
  const box = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const session = useRef(call?.session_id);
  session.current = call?.session_id ?? session.current;

  useEffect(() => {
    if (box.current && follows.current) box.current.scrollTop = box.current.scrollHeight;
  }, [whole, interim]);

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
            <Said
              key={at}
              role={line.role}
              text={line.text}
              told={line}
              interim={line.interim}
            />
          ))}
        </ol>
      </div>
    </section>
  );
}

/** `whole`: what was said; `interim`: the words so far of who is saying something. */
interface Heard {
  whole: Caption[];
  interim: Caption[];
}

function useCaptions(room: string): Heard {
  const [heard, setHeard] = useState<Heard>({ whole: [], interim: [] });
  useEffect(() => {
    const source = new EventSource(`/api/calls/${part(room)}/captions`);
    source.onmessage = ({ data }: MessageEvent<string>) => {
      const line = parsed(data);
      if (line) setHeard((before) => after(before, line));
    };
    return () => source.close();
  }, [room]);
  return heard;
}

/** A line takes the place of the words so far of who said it. */
function after({ whole, interim }: Heard, line: Caption): Heard {
  const others = interim.filter(({ role }) => role !== line.role);
  if (!line.interim) return { whole: [...whole.slice(1 - KEPT), line], interim: others };
  if (others.length === interim.length) return { whole, interim: [...interim, line] };
  return { whole, interim: interim.map((one) => (one.role === line.role ? line : one)) };
}

function parsed(data: string): Caption | null {
  try {
    const line: Partial<Caption> = JSON.parse(data);
    return typeof line.text === "string" && line.text ? (line as Caption) : null;
  } catch {
    return null;
  }
}
