import { useGet } from "./api";
import { Badge } from "./Badge";
import { Loaded } from "./Loaded";
import type { Health as Report } from "./shapes";
import { moment } from "./times";

/** What `task=doctor` finds, of the runner that runs. */
export default function Health() {
  const report = useGet<Report>("/api/health");
  return (
    <>
      <div className="tools">
        <button
          type="button"
          disabled={report.isValidating}
          onClick={() => void report.mutate()}
        >
          {report.isValidating ? "Checking …" : "Check again"}
        </button>
        {report.data?.checked_at && (
          <span className="quiet">Checked {moment(report.data.checked_at)}</span>
        )}
      </div>
      <Loaded from={report}>
        {({ served, lines }) => (
          <>
            <p className={`notice ${served ? "good" : "bad"}`}>
              {served ? "A call would be served." : "A call could not be served."}
            </p>
            <ul className="health">
              {lines.map(({ part, state, detail, mend, vital }, at) => (
                <li key={at}>
                  <Badge state={state} />
                  <div>
                    <h2>
                      {part} {vital && <span className="quiet">needed by every call</span>}
                    </h2>
                    <p>{detail}</p>
                    {mend && <p className="mend">{mend}</p>}
                  </div>
                </li>
              ))}
            </ul>
          </>
        )}
      </Loaded>
    </>
  );
}
