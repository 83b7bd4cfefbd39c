const TONES: Record<string, string[]> = {
  good: ["listening", "speaking", "closed", "ok", "indexed", "active", "in use", "on"],
  fair: ["thinking", "half-open", "resting", "slow", "stand-in", "indexing", "waiting"],
  bad: ["open", "broken", "failed", "off", "lost"],
};

/** A state in a word, with a colour that says no more than the word. */
export function Badge({ state, tone }: { state: string; tone?: "good" | "fair" | "bad" | "plain" }) {
  const found = Object.entries(TONES).find(([, states]) => states.includes(state))?.[0];
  return (
    <span className="badge" data-tone={tone ?? found ?? "plain"}>
      {state}
    </span>
  );
}
