import { diffWordsWithSpace } from "diff";
import type { PersonaText } from "./shapes";

const FIELDS = ["name", "language", "greeting", "instructions"] as const;

/** What differs between two texts of instructions, word by word; null: there was none. */
export function Diff({ before, after }: { before: PersonaText | null; after: PersonaText }) {
  const changed = FIELDS.filter((field) => text(before, field) !== text(after, field));
  if (changed.length === 0) return <p className="quiet">The text is the same.</p>;
  return (
    <dl className="diff">
      {changed.map((field) => (
        <div key={field}>
          <dt>{field}</dt>
          <dd>
            <Words before={text(before, field)} after={text(after, field)} />
          </dd>
        </div>
      ))}
    </dl>
  );
}

/** Words that are gone and words that are new, in their place. */
function Words({ before, after }: { before: string; after: string }) {
  return diffWordsWithSpace(before, after).map(({ added, removed, value }, at) =>
    added ? (
      <ins key={at}>{value}</ins>
    ) : removed ? (
      <del key={at}>{value}</del>
    ) : (
      <span key={at}>{value}</span>
    ),
  );
}

function text(from: PersonaText | null, field: (typeof FIELDS)[number]): string {
  return from?.[field] ?? "";
}
