const ALIKE = 0.6; // of a sentence's words that the answer has, too

/** A stretch of a passage. `cited`: the answer was read there. */
export interface Stretch {
  text: string;
  cited: boolean;
}

/** Passages by their sentences, with those marked that the answer repeats; at least the nearest. */
export function stretches(passages: string[], answer: string): Stretch[][] {
  const said = new Set(words(answer));
  const scored = passages.map((passage) =>
    sentences(passage).map((text) => ({ text, score: alike(text, said) })),
  );
  const least = Math.min(ALIKE, Math.max(...scored.flat().map(({ score }) => score)));
  return scored.map((passage) =>
    merged(passage.map(({ text, score }) => ({ text, cited: least > 0 && score >= least }))),
  );
}

function sentences(passage: string): string[] {
  return passage.match(/[^.!?\n]*(?:[.!?]+(?=\s|$)|\n+|[.!?]|$)/g) ?? [];
}

/** The share of a sentence's words that were said; none of one that has too few to tell. */
function alike(sentence: string, said: Set<string>): number {
  const own = words(sentence);
  return own.length > 2 ? own.filter((word) => said.has(word)).length / own.length : 0;
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
