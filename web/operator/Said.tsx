import type { Service, Source, Told } from "./shapes";
import { Stages } from "./Stages";

const SPEAKERS: Record<string, string> = { user: "Caller", assistant: "Agent", system: "System" };

/** Something that was said, by whom, how fast, and who failed before it was served. `at`: when;
 * `interim`: it is still being said. */
export function Said({ role, text, told, at, interim }: {
  role: string;
  text: string;
  told: Told | null;
  at?: string;
  interim?: boolean;
}) {
  const answered = role === "assistant";
  const failed = answered ? failovers(told?.services) : [];
  return (
    <li data-role={role} data-interim={interim} aria-busy={interim}>
      <p className="speaker">
        <b>{SPEAKERS[role] ?? role}</b>
        {at && <span className="number quiet">{at}</span>}
        {told?.interrupted && <span className="quiet">interrupted</span>}
      </p>
      <p className="words">{text}</p>
      {answered && told?.stages_s?.e2e != null && <Stages told={told.stages_s} legend />}
      {answered && told?.served_by && <p className="quiet facts">{served(told)}</p>}
      {failed.map((sentence) => (
        <p key={sentence} className="failover">
          {sentence}
        </p>
      ))}
      {answered && told?.sources && told.sources.length > 0 && <Sources sources={told.sources} />}
    </li>
  );
}

/** "heard by embedded · answered by vllm, 812 + 40 tokens · spoken by embedded". */
function served({ served_by = {}, services = {} }: Told): string {
  const { prompt, completion } = services.llm?.tokens ?? {};
  const tokens = prompt || completion ? `, ${prompt ?? 0} + ${completion ?? 0} tokens` : "";
  return [
    served_by.stt && `heard by ${served_by.stt}`,
    served_by.llm && `answered by ${served_by.llm}${tokens}`,
    served_by.tts && `spoken by ${served_by.tts}`,
  ]
    .filter(Boolean)
    .join(" · ");
}

/** "llm: vllm failed (cut), ollama went on", for each capability that needed another. */
function failovers(services: Record<string, Service> = {}): string[] {
  return Object.entries(services)
    .filter(([, { failovers }]) => failovers && failovers.length > 0)
    .map(([capability, { provider, failovers = [] }]) => {
      const failed = failovers.map((one) => `${one.provider} failed (${one.reason})`).join(", ");
      return `${capability.toUpperCase()}: ${failed}, ${provider ? `${provider} served` : "nobody served"}`;
    });
}

function Sources({ sources }: { sources: Source[] }) {
  return (
    <details>
      <summary>
        {sources.length === 1 ? "1 source" : `${sources.length} sources`}:{" "}
        {[...new Set(sources.map(({ filename }) => filename))].join(", ")}
      </summary>
      {sources.map(({ filename, heading, quote, page }, at) => (
        <figure key={at}>
          <blockquote>{quote}</blockquote>
          <figcaption className="quiet">
            {[filename, heading, page != null && `page ${page}`].filter(Boolean).join(" · ")}
          </figcaption>
        </figure>
      ))}
    </details>
  );
}
