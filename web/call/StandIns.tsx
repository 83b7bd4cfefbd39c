import type { Status } from "./status";

/** What stands in for what, and why. */
export function StandIns({ stand_ins, notes = [], error }: Status) {
  return (
    <aside className="standins" aria-labelledby="standins" data-testid="standins">
      <h2 id="standins">Standing in</h2>
      {error && <p>{error}</p>}
      {stand_ins?.length === 0 && <p>Nothing: every part is the one that was asked for.</p>}
      <ul>
        {stand_ins?.map((one) => (
          <li key={one.for}>
            <h3>{one.for}</h3>
            <p>
              <b>{one.provider}</b>
              {one.instead_of.length > 0 && <> instead of {one.instead_of.join(", ")}</>}
            </p>
            <ul className="reason">
              {one.reason.split("; ").map((reason) => (
                <li key={reason}>{reason}</li>
              ))}
            </ul>
          </li>
        ))}
      </ul>
      {notes.map((note) => (
        <p key={note} className="reason">
          {note}
        </p>
      ))}
    </aside>
  );
}
