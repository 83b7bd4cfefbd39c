import { useEffect, useRef } from "react";
import { parts } from "../operator/stages";
import { Sources } from "./Sources";
import { failovers, service, type Turn } from "./turn";

/** Where an answer comes from: the passages it was read in, who served it, and how fast. */
export function Origin({ turn }: { turn: Turn }) {
  const served = service(turn);
  if (!served && turn.sources.length === 0) return null;
  return (
    <footer>
      {turn.sources.length > 0 && <Sources sources={turn.sources} answer={turn.text} />}
      {served && <Service turn={turn} served={served} />}
    </footer>
  );
}

const CAPABILITIES: Record<string, string> = { stt: "Heard by", llm: "Answered by", tts: "Spoken by" };

function Service({ turn, served }: { turn: Turn; served: string }) {
  const spent = parts(turn.stages_s);
  const services = Object.entries(CAPABILITIES).filter(([name]) => turn.served_by[name]);
  return (
    <details className="service" data-testid="service">
      <summary>
        {spent.length > 0 && <Bar spent={spent} />}
        <span>{served}</span>
      </summary>
      <div className="columns">
        {spent.length > 0 && (
          <dl className="stages">
            {spent.map(({ key, label, took_s }) => (
              <div key={key} data-stage={key}>
                <dt>{label.charAt(0).toUpperCase() + label.slice(1)}</dt>
                <dd>{took_s.toFixed(2)} s</dd>
              </div>
            ))}
          </dl>
        )}
        <dl>
          {services.map(([name, label]) => (
            <div key={name}>
              <dt>{label}</dt>
              <dd>
                {turn.served_by[name]}
                {failovers(turn.services?.[name]) && (
                  <>, after {failovers(turn.services?.[name])}</>
                )}
              </dd>
            </div>
          ))}
        </dl>
      </div>
    </details>
  );
}

type Spent = ReturnType<typeof parts>;

/** How the time of an answer was spent, one part beside the other. */
function Bar({ spent }: { spent: Spent }) {
  const told = spent.map(({ label, took_s }) => `${label} ${took_s.toFixed(2)} s`).join(", ");
  return (
    <span className="bar" role="img" aria-label={told}>
      {spent.map((part) => (
        <Share key={part.key} stage={part.key} took_s={part.took_s} />
      ))}
    </span>
  );
}

function Share({ stage, took_s }: { stage: string; took_s: number }) {
  const share = useRef<HTMLElement>(null);
  useEffect(() => share.current?.style.setProperty("flex-grow", (took_s * 1000).toFixed()), [took_s]);
  return <i ref={share} data-stage={stage} />;
}
