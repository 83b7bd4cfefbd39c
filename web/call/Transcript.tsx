import { useEffect, useRef } from "react";
import type { Line } from "./lines";
import { Origin } from "./Origin";

const NEAR_PX = 80; // closer to the end than this, the reader follows what is said

/** What was said on both sides. `still`: it is over, and nothing will be added. */
export function Transcript({ lines, still }: { lines: Line[]; still?: boolean }) {
  const list = useRef<HTMLDivElement>(null);
  const follows = useRef(!still);
  useEffect(() => {
    const box = list.current;
    if (box && follows.current) box.scrollTop = box.scrollHeight;
  }, [lines]);

  return (
    <div
      ref={list}
      className="transcript"
      data-testid="transcript"
      role={still ? "region" : "log"}
      aria-label="Transcript"
      tabIndex={0}
      onScroll={({ currentTarget: box }) => {
        follows.current = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
      }}
    >
      <ol>
        {lines.map((line) => (
          <li key={line.id} data-role={line.role} data-final={line.final} aria-busy={!line.final}>
            <span className="visually-hidden">{line.role === "user" ? "You: " : "Agent: "}</span>
            <p>{line.text}</p>
            {line.turn?.interrupted && <p className="cut">You interrupted the agent here.</p>}
            {line.turn && <Origin turn={line.turn} />}
          </li>
        ))}
      </ol>
    </div>
  );
}
