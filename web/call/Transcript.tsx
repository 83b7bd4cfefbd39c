import { useEffect, useRef } from "react";
import type { Line } from "./lines";
import { service, stages, type Source, type Turn } from "./turn";

const NEAR_PX = 80; // closer to the end than this, the reader follows what is said

export function Transcript({ lines }: { lines: Line[] }) {
  const list = useRef<HTMLOListElement>(null);
  const follows = useRef(true);
  useEffect(() => {
    const box = list.current;
    if (box && follows.current) box.scrollTop = box.scrollHeight;
  }, [lines]);

  return (
    <ol
      ref={list}
      className="transcript"
      data-testid="transcript"
      role="log"
      aria-label="Transcript"
      tabIndex={0}
      onScroll={({ currentTarget: box }) => {
        follows.current = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
      }}
    >
      {lines.map((line) => (
        <li key={line.id} data-role={line.role} data-final={line.final} aria-busy={!line.final}>
          <span className="visually-hidden">{line.role === "user" ? "You: " : "Agent: "}</span>
          <p>{line.text}</p>
          {line.turn && <Origin turn={line.turn} />}
        </li>
      ))}
    </ol>
  );
}

/** Where an answer comes from: the passages it was read in, who served it, and how fast. */
function Origin({ turn }: { turn: Turn }) {
  const served = service(turn);
  return (
    <footer>
      {turn.sources.length > 0 && <Sources sources={turn.sources} />}
      {served && <small title={stages(turn)}>{served}</small>}
    </footer>
  );
}

function Sources({ sources }: { sources: Source[] }) {
  const files = [...new Set(sources.map(({ filename }) => filename))];
  return (
    <details data-testid="sources">
      <summary>
        {files.length > 1 ? "Sources" : "Source"}: {files.join(", ")}
      </summary>
      {sources.map(({ filename, heading, quote }, at) => (
        <figure key={at}>
          <blockquote>{quote}</blockquote>
          <figcaption>{heading ? `${filename} — ${heading}` : filename}</figcaption>
        </figure>
      ))}
    </details>
  );
}
