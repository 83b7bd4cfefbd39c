import { diffJson } from "diff";
import { Loaded, Nothing } from "./Loaded";
import { More } from "./More";
import { usePages } from "./pages";
import type { AuditEntry } from "./shapes";
import { moment } from "./times";

interface Page {
  entries: AuditEntry[];
  next: number | null;
}

/** Who changed what, the latest first. */
export default function Audit() {
  const { list, busy, more } = usePages<Page>("/api/audit?limit=50");
  return (
    <>
      <Loaded from={list}>
        {(pages) => {
          const entries = pages.flatMap((page) => page.entries);
          return (
            <>
              {entries.length === 0 && (
                <Nothing title="Nothing was changed yet.">
                  Each change made here appears with what was there before.
                </Nothing>
              )}
              <ol className="audit">
                {entries.map((one) => (
                  <Entry key={one.id} entry={one} />
                ))}
              </ol>
            </>
          );
        }}
      </Loaded>
      <More more={more} busy={busy} />
    </>
  );
}

function Entry({ entry: { at, who, what, before, after } }: { entry: AuditEntry }) {
  const told = before != null || after != null;
  return (
    <li>
      <time className="number quiet" dateTime={at}>
        {moment(at)}
      </time>
      <div>
        <p>
          <b>{what}</b> <span className="quiet">by {who}</span>
        </p>
        {told && (
          <details>
            <summary>What changed</summary>
            <Change before={before} after={after} />
          </details>
        )}
      </div>
    </li>
  );
}

function Change({ before, after }: { before: unknown; after: unknown }) {
  return (
    <pre tabIndex={0} className="diff">
      {diffJson(object(before), object(after)).map(({ added, removed, value }, at) =>
        added ? (
          <ins key={at}>{value}</ins>
        ) : removed ? (
          <del key={at}>{value}</del>
        ) : (
          <span key={at}>{value}</span>
        ),
      )}
    </pre>
  );
}

/** What can be compared line by line. */
function object(value: unknown): string | object {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? value : JSON.stringify(value);
}
