import type { Seconds } from "./shapes";

/** The stages of an answer, in their order. `key`: the colour's name in the stylesheet. */
export const STAGES = [
  { key: "stt", label: "transcript" },
  { key: "end_of_turn", label: "end of turn" },
  { key: "retrieval", label: "search" },
  { key: "llm_ttft", label: "first word" },
  { key: "tts_ttfb", label: "first sound" },
  { key: "rest", label: "other" },
] as const;

export type StageKey = (typeof STAGES)[number]["key"];

const LEAST_S = 0.005; // less is nothing to be seen

/** How the time until the answer was heard was spent, without overlap: the transcript comes while
 * the end of the turn is waited for, and the search is part of the time to the first word. */
export function parts(told: Seconds): { key: StageKey; label: string; took_s: number }[] {
  const of = (key: string) => Math.max(0, told[key] ?? 0);
  const stt = of("end_of_turn") ? Math.min(of("stt"), of("end_of_turn")) : of("stt");
  const retrieval = of("llm_ttft") ? Math.min(of("retrieval"), of("llm_ttft")) : of("retrieval");
  const took: Record<StageKey, number> = {
    stt,
    end_of_turn: Math.max(0, of("end_of_turn") - stt),
    retrieval,
    llm_ttft: Math.max(0, of("llm_ttft") - retrieval),
    tts_ttfb: of("tts_ttfb"),
    rest: 0,
  };
  took.rest = Math.max(0, of("e2e") - Object.values(took).reduce((sum, one) => sum + one, 0));
  return STAGES.map(({ key, label }) => ({ key, label, took_s: took[key] })).filter(
    ({ took_s }) => took_s > LEAST_S,
  );
}
