import { type SubmitEvent, useState } from "react";
import { part, useGet } from "./api";
import { Loaded, Nothing } from "./Loaded";
import type { Hit } from "./shapes";
import { seconds } from "./times";

interface Found {
  hits: Hit[];
  took_s: number;
}

/** Asks what the agent would find. */
export function TrySearch() {
  const [query, setQuery] = useState("");
  const [asked, setAsked] = useState<string | null>(null);
  const answer = useGet<Found>(asked && `/api/search?query=${part(asked)}`);
  function submit(event: SubmitEvent) {
    event.preventDefault();
    if (query.trim() === asked) void answer.mutate();
    setAsked(query.trim() || null);
  }
  return (
    <section aria-labelledby="try">
      <h2 id="try">Try a search</h2>
      <form role="search" className="tools" onSubmit={submit}>
        <label>
          <span className="visually-hidden">A question to the documents</span>
          <input
            type="search"
            placeholder="A question, as a caller would ask it"
            maxLength={500}
            value={query}
            onChange={(event) => setQuery(event.target.value)}
          />
        </label>
        <button type="submit" disabled={!query.trim()}>
          Search
        </button>
      </form>
      {asked && <Loaded from={answer}>{(found) => <Hits {...found} />}</Loaded>}
    </section>
  );
}

function Hits({ hits, took_s }: Found) {
  if (hits.length === 0) {
    return (
      <Nothing title="Nothing was near enough.">
        The agent would say that the documents do not have it.
      </Nothing>
    );
  }
  return (
    <>
      <p className="quiet count">
        {hits.length === 1 ? "1 passage" : `${hits.length} passages`} in {seconds(took_s)}
      </p>
      <ol className="cards">
        {hits.map(({ filename, heading, page, content, similarity, chunk_index }) => (
          <li key={`${filename} ${chunk_index}`} className="card" data-testid="hit">
            <div className="line">
              <h3>{filename}</h3>
              <span className="quiet">
                {[heading, page != null && `page ${page}`].filter(Boolean).join(" · ")}
              </span>
              <span className="number end" title="Similarity, at most 1">
                {similarity.toFixed(2)}
              </span>
            </div>
            <p className="passage">{content}</p>
          </li>
        ))}
      </ol>
    </>
  );
}
