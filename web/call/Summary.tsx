import { useState } from "react";
import { asJson, asText, type CallRecord, clock, figures } from "./record";
import { Transcript } from "./Transcript";

/** What remains of a call: its figures, and what was said, to be taken along. */
export function Summary({ record }: { record: CallRecord }) {
  const { duration_s, turns, median_s, providers, sources } = figures(record);
  return (
    <div className="summary" data-testid="summary">
      <h2>Your call</h2>
      <dl className="figures">
        <Figure label="Duration" value={clock(duration_s)} />
        <Figure label="Turns" value={turns.toString()} />
        <Figure label="Median wait" value={median_s == null ? "–" : `${median_s.toFixed(1)} s`} />
        <Figure label="Answered by" value={providers.join(", ") || "–"} />
        <Figure label="Sources" value={sources.join(", ") || "–"} />
      </dl>
      {record.lines.length > 0 && (
        <>
          <h3>Transcript</h3>
          <Transcript lines={record.lines} still />
          <Taking record={record} />
        </>
      )}
    </div>
  );
}

function Figure({ label, value }: { label: string; value: string }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd>{value}</dd>
    </div>
  );
}

/** The transcript into the clipboard, or into a file. */
function Taking({ record }: { record: CallRecord }) {
  const [told, setTold] = useState("");
  async function copy() {
    try {
      await navigator.clipboard.writeText(asText(record));
      setTold("Copied.");
    } catch {
      setTold("The browser does not let this page copy. Download the text instead.");
    }
  }
  return (
    <div className="taking">
      <button type="button" data-testid="copy" onClick={copy}>
        Copy
      </button>
      <button
        type="button"
        data-testid="text"
        onClick={() => download(record, "txt", "text/plain", asText(record))}
      >
        Download text
      </button>
      <button
        type="button"
        data-testid="json"
        onClick={() => download(record, "json", "application/json", asJson(record))}
      >
        Download JSON
      </button>
      <p role="status">{told}</p>
    </div>
  );
}

function download({ began }: CallRecord, ending: string, type: string, content: string) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = `call-${began.toISOString().slice(0, 16).replace(/[-:]/g, "")}.${ending}`;
  link.click();
  URL.revokeObjectURL(address);
}
