import { type SubmitEvent, useId, useState } from "react";
import { useAction } from "./action";
import { part, send } from "./api";
import { Outcome } from "./Outcome";
import type { Setting } from "./shapes";
import { bounds, shown } from "./values";

/** One setting: what it does, what it is, and what may be written. */
export function SettingRow({ setting, onChange }: { setting: Setting; onChange: () => void }) {
  const { key, description, allowed, composed, is_set, live, trouble } = setting;
  const now = is_set ? live : composed;
  const [text, setText] = useState<string | null>(null); // null: nothing was typed
  const action = useAction();
  const id = useId();
  const path = `/api/settings/${part(key)}`;

  async function save(event: SubmitEvent) {
    event.preventDefault();
    const saved = await action.run(() => send("PUT", path, { value: value(text ?? "") }));
    if (saved) setText(null);
    onChange();
  }

  function reset() {
    setText(null);
    void action.run(async () => {
      const done = await send("DELETE", path);
      onChange();
      return done;
    });
  }

  const input = { id, value: text ?? shown(now), "aria-describedby": `${id}-about` };
  return (
    <li data-set={is_set} data-testid="setting">
      <form onSubmit={save}>
        <label htmlFor={id} className="mono">
          {key.slice(key.lastIndexOf(".") + 1)}
        </label>
        <span className="field">
          {typeof composed === "boolean" ? (
            <select {...input} onChange={(event) => setText(event.target.value)}>
              <option>true</option>
              <option>false</option>
            </select>
          ) : (
            <input
              {...input}
              className="number"
              inputMode={typeof composed === "number" ? "decimal" : undefined}
              autoComplete="off"
              onChange={(event) => setText(event.target.value)}
            />
          )}
          <button
            type="submit"
            className="small"
            disabled={action.busy || text === null || text === shown(now)}
          >
            Set
          </button>
          {is_set && (
            <button type="button" className="small" disabled={action.busy} onClick={reset}>
              Back to {shown(composed)}
            </button>
          )}
        </span>
        <p id={`${id}-about`} className="quiet">
          {description}
          {bounds(allowed) && ` · ${bounds(allowed)}`}
        </p>
        {trouble && <p className="reason">{trouble}</p>}
        <Outcome action={action} />
      </form>
    </li>
  );
}

/** What was typed, as JSON where it is such: a number, true, null. */
function value(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
