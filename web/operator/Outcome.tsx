import type { Action } from "./action";

/** What came of an action, said aloud, too. */
export function Outcome({ action: { trouble, done } }: { action: Action }) {
  return (
    <>
      <div role="alert">{trouble && <p className="notice bad">{trouble}</p>}</div>
      <div role="status">{done && <p className="notice good">{done}</p>}</div>
    </>
  );
}
