const ALIKE = 0.6; // of a sentence's words that the answer has, too

/** A stretch of a passage. `cited`: the answer was read there. */
export interface Stretch {
  text: string;
  cited: boolean;
}

/** A passage by its sentences, with those marked that the answer repeats; at least the nearest. */
export function stretches(passage: string, answer: string): Stretch[] {
  const said = new Set(words(answer));
  const sentences = passage.match(/[^.!?\n]*(?:[.!?]+(?=\s|$)|\n+|[.!?]|$)/g) ?? [];
  const scores = sentences.map((sentence) => {
    const own = words(sentence);
    return own.length > 2 ? own.filter((word) => said.has(word)).length / own.length : 0;
  });
  const least = Math.min(ALIKE, Math.max(...scores));
  return merged(
    sentences.map((text, at) => ({ text, cited: least > 0 && (scores[at] ?? 0) >= least })),
  );
}

function words(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
}

function merged(sentences: Stretch[]): Stretch[] {
  const found: Stretch[] = [];
  for (const { text, cited } of sentences) {
    const last = found.at(-1);
    if (last?.cited === cited) last.text += text;
    else if (text) found.push({ text, cited });
  }
  return found;
}
