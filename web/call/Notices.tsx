import type { ReactNode } from "react";

/** Sentences about what is wrong and what to do, read out by screen readers as they appear. */
export function Notices({ sentences, children }: {
  sentences: (string | null)[];
  children?: ReactNode;
}) {
  return (
    <div className="notices" data-testid="notice" role="status">
      {sentences.map((sentence) => sentence && <p key={sentence}>{sentence}</p>)}
      {children}
    </div>
  );
}
