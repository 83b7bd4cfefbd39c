/** Fetches the next page of a list; nothing at its end. */
export function More({ more, busy }: { more: (() => void) | null; busy: boolean }) {
  if (!more) return null;
  return (
    <button type="button" className="more" disabled={busy} onClick={more}>
      {busy ? "Loading …" : "Show older ones"}
    </button>
  );
}
