/** Where an answer was read. `passage`: whole, with the quote in it. */
export interface Source {
  filename: string;
  heading: string | null;
  page?: number | null;
  quote: string;
  passage?: string;
  similarity: number;
}

/** What the agent publishes on `runner.turn` once something was said, by either side. */
export interface Turn {
  role: string;
  text: string;
  interrupted?: boolean;
  sources: Source[];
  served_by: Record<string, string | null>;
  services?: Record<string, Service>;
  stages_s: Record<string, number | null>;
}

/** Who was asked to hear, to think or to speak: those who failed, and why, in their order. */
export interface Service {
  provider?: string | null;
  model?: string;
  failovers: { provider: string; reason: string }[];
}

/** The answer in a text stream, or null while it is still arriving or holds none. */
export function parseAnswer(json: string): Turn | null {
  try {
    const turn: Turn = JSON.parse(json);
    const whole = typeof turn.text === "string" && Array.isArray(turn.sources);
    return turn.role === "assistant" && whole && turn.served_by && turn.stages_s ? turn : null;
  } catch {
    return null;
  }
}

/** "answered by ollama in 0.7 s, after vllm (cut)", as far as it is known. */
export function service({ served_by, services, stages_s }: Turn): string {
  const by = served_by.llm ? ` by ${served_by.llm}` : "";
  const time = stages_s.e2e == null ? "" : ` in ${stages_s.e2e.toFixed(1)} s`;
  const failed = failovers(services?.llm);
  const after = failed ? `, after ${failed}` : "";
  return by || time ? `answered${by}${time}${after}` : "";
}

/** "vllm (cut), ollama (timeout)" */
export function failovers(service: Service | undefined): string {
  return (service?.failovers ?? []).map(({ provider, reason }) => `${provider} (${reason})`).join(", ");
}
