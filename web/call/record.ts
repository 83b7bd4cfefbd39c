import type { Line } from "./lines";

/** A call that is over. */
export interface CallRecord {
  began: Date;
  ended: Date;
  lines: Line[];
}

/** What there is to know of a call in a few lines. `turns`: what the caller said or wrote.
 * `median_s`: from the caller's last sound to the first of the answer; null: nobody waited. */
export interface Figures {
  duration_s: number;
  turns: number;
  median_s: number | null;
  providers: string[];
  sources: string[];
}

export function figures({ began, ended, lines }: CallRecord): Figures {
  const answers = lines.flatMap(({ turn }) => (turn ? [turn] : []));
  const waits = answers.flatMap(({ stages_s }) => (stages_s.e2e == null ? [] : [stages_s.e2e]));
  return {
    duration_s: (ended.getTime() - began.getTime()) / 1000,
    turns: lines.filter(({ role }) => role === "user").length,
    median_s: median(waits),
    providers: distinct(answers.map(({ served_by }) => served_by.llm)),
    sources: distinct(answers.flatMap(({ sources }) => sources.map(({ filename }) => filename))),
  };
}

/** "You: …" and "Agent: …" with the sources of each answer, a blank line between two. */
export function asText({ began, lines }: CallRecord): string {
  const said = lines.map(({ role, text, turn }) => {
    const read = distinct(
      (turn?.sources ?? []).map(({ filename, heading }) =>
        heading ? `${filename}, ${heading}` : filename,
      ),
    );
    const from = read.length > 0 ? `\n  [${read.join("; ")}]` : "";
    return `${role === "user" ? "You" : "Agent"}: ${text.trim()}${from}`;
  });
  return [`Call of ${began.toLocaleString()}`, ...said].join("\n\n") + "\n";
}

/** Everything that the page knows of the call. */
export function asJson(record: CallRecord): string {
  const messages = record.lines.map(({ role, text, turn }) => ({
    role,
    text: text.trim(),
    ...(turn && {
      interrupted: turn.interrupted ?? false,
      sources: turn.sources,
      served_by: turn.served_by,
      stages_s: turn.stages_s,
    }),
  }));
  const { began, ended } = record;
  return JSON.stringify({ began, ended, ...figures(record), messages }, null, 2) + "\n";
}

/** "1:05" for 65 seconds. */
export function clock(seconds: number): string {
  const whole = Math.floor(seconds);
  const [minutes, rest] = [Math.floor(whole / 60), whole % 60];
  return `${minutes}:${rest.toString().padStart(2, "0")}`;
}

function distinct(names: (string | null | undefined)[]): string[] {
  return [...new Set(names.filter((name) => !!name))] as string[];
}

function median(values: number[]): number | null {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const around = sorted.slice(Math.ceil(middle) - 1, Math.floor(middle) + 1);
  return around.length > 0 ? around.reduce((sum, value) => sum + value, 0) / around.length : null;
}
