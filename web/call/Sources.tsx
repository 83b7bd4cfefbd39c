import { useEffect, useRef, useState } from "react";
import { stretches } from "./citation";
import type { Source } from "./turn";

const HEADING_SIGNS = /^#{1,6} +/gm; // of Markdown, in the midst of a passage

/** What an answer was read in: it opens at the words that the answer repeats. */
export function Sources({ sources, answer }: { sources: Source[]; answer: string }) {
  const [open, setOpen] = useState(false);
  const files = [...new Set(sources.map(({ filename }) => filename))];
  return (
    <details data-testid="sources" onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
      <summary>
        {files.length > 1 ? "Sources" : "Source"}: {files.join(", ")}
      </summary>
      {open && <Passages sources={sources} answer={answer} />}
    </details>
  );
}

function Passages({ sources, answer }: { sources: Source[]; answer: string }) {
  const list = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (list.current) turnTo(list.current);
  }, []);
  const passages = stretches(
    sources.map(({ passage, quote }) => (passage ?? quote).replace(HEADING_SIGNS, "")),
    answer,
  );
  return (
    <div ref={list}>
      {sources.map(({ filename, heading, page }, at) => (
        <figure key={at}>
          <figcaption>
            <b>{heading ?? filename}</b>
            <span>{[heading && filename, page && `page ${page}`].filter(Boolean).join(" · ")}</span>
          </figcaption>
          <blockquote tabIndex={0} aria-label={`Passage of ${filename}`}>
            {passages[at]?.map(({ text, cited }, place) =>
              cited ? <mark key={place}>{text}</mark> : <span key={place}>{text}</span>,
            )}
          </blockquote>
        </figure>
      ))}
    </div>
  );
}

/** Turns each passage to its first mark, and the transcript to the first passage with one. */
function turnTo(list: HTMLElement) {
  for (const passage of list.querySelectorAll("blockquote")) {
    const mark = passage.querySelector("mark");
    if (mark) passage.scrollTop = mark.offsetTop - passage.clientHeight / 4;
  }
  list.querySelector("figure:has(mark)")?.scrollIntoView({ block: "nearest" });
}
