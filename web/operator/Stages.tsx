import type { Seconds } from "./shapes";
import { parts } from "./stages";
import { seconds } from "./times";

const FULL_S = 2; // a bar that long is full: answers can be compared by eye

/** The time of an answer as a bar of its stages, and as a number. `legend`: in words, too. */
export function Stages({ told, legend }: { told: Seconds | null | undefined; legend?: boolean }) {
  const spent = parts(told ?? {});
  const sum_s = spent.reduce((sum, { took_s }) => sum + took_s, 0);
  const whole_s = told?.e2e ?? (spent.length > 0 ? sum_s : null);
  if (whole_s === null) return <span className="quiet">no answer yet</span>;
  const words = spent.map(({ label, took_s }) => `${label} ${seconds(took_s)}`);
  const scale_s = Math.max(FULL_S, sum_s);
  return (
    <span className="stages">
      <svg
        className="bar"
        role="img"
        aria-label={`Answered in ${seconds(whole_s)}: ${words.join(", ")}`}
        viewBox={`0 0 ${scale_s} 1`}
        preserveAspectRatio="none"
      >
        <title>{words.join("\n")}</title>
        {spent.map(({ key, took_s }, at) => (
          <rect
            key={key}
            data-stage={key}
            x={spent.slice(0, at).reduce((sum, before) => sum + before.took_s, 0)}
            width={took_s}
            height="1"
          />
        ))}
      </svg>
      <b className="number">{seconds(whole_s)}</b>
      {legend && (
        <span className="legend">
          {spent.map(({ key, label, took_s }) => (
            <span key={key}>
              <i data-stage={key} aria-hidden="true" />
              {label} <span className="number">{seconds(took_s)}</span>
            </span>
          ))}
        </span>
      )}
    </span>
  );
}
