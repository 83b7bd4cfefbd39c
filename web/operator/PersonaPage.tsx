import { Tabs } from "@base-ui/react/tabs";
import { useState } from "react";
import { useAction } from "./action";
import { type Done, send } from "./api";
import { Badge } from "./Badge";
import { Diff } from "./Diff";
import { History } from "./History";
import { Outcome } from "./Outcome";
import { PersonaForm, type Draft } from "./PersonaForm";
import { to } from "./route";
import type { Persona } from "./shapes";

const PATH = "/api/instructions";
interface Added extends Done {
  id: number;
}

const EMPTY: Draft = { name: "", language: "en", greeting: "", instructions: "" };

/** One row of instructions, or a new one: its text, what would change, and what was. */
export function PersonaPage({ persona, onChange }: {
  persona: Persona | null;
  onChange: () => Promise<unknown>;
}) {
  const saved = persona ? draftOf(persona) : EMPTY;
  const [edits, setEdits] = useState<Partial<Draft>>({});
  const draft = { ...saved, ...edits };
  const action = useAction();
  const changed = Object.keys(edited(saved, draft)).length > 0;

  const save = () =>
    void action.run(async () => {
      if (persona) {
        const done = await send("PUT", `${PATH}/${persona.id}`, edited(saved, draft));
        await onChange();
        setEdits({});
        return done;
      }
      const added = await send<Added>("POST", PATH, draft);
      await onChange();
      window.location.hash = to("instructions", added.id);
      return added;
    });
  const turn = (way: "activate" | "deactivate") =>
    void action.run(async () => {
      const done = await send("POST", `${PATH}/${persona?.id}/${way}`);
      await onChange();
      return done;
    });

  return (
    <section className="card persona" aria-label={persona?.name ?? "New instructions"}>
      <div className="line">
        <h2>{persona?.name ?? "New instructions"}</h2>
        {persona?.is_active && <Badge state={persona.in_use ? "in use" : "active"} />}
        {persona && (
          <button
            type="button"
            className="end small"
            disabled={action.busy}
            onClick={() => turn(persona.is_active ? "deactivate" : "activate")}
          >
            {persona.is_active ? "Deactivate" : "Activate"}
          </button>
        )}
      </div>
      <Outcome action={action} />
      <Tabs.Root defaultValue="text">
        <Tabs.List className="tabs" aria-label="Views">
          <Tabs.Tab value="text">Text</Tabs.Tab>
          <Tabs.Tab value="diff" disabled={!changed}>
            What changes
          </Tabs.Tab>
          {persona && <Tabs.Tab value="history">History</Tabs.Tab>}
        </Tabs.List>
        <Tabs.Panel value="text" keepMounted>
          <PersonaForm draft={draft} onChange={setEdits} onSave={save} />
        </Tabs.Panel>
        <Tabs.Panel value="diff">
          <Diff before={persona ? saved : null} after={draft} />
        </Tabs.Panel>
        {persona && (
          <Tabs.Panel value="history">
            <History
              persona={persona}
              onRestored={async () => {
                await onChange();
                setEdits({});
              }}
            />
          </Tabs.Panel>
        )}
      </Tabs.Root>
      <div className="actions">
        {changed && (
          <button type="button" disabled={action.busy} onClick={() => setEdits({})}>
            Discard
          </button>
        )}
        <button
          type="button"
          className="primary"
          disabled={action.busy || !changed || !draft.name.trim() || !draft.instructions.trim()}
          onClick={save}
        >
          Save
        </button>
      </div>
    </section>
  );
}

/** What of `draft` is not as it is saved. */
function edited(saved: Draft, draft: Draft): Partial<Draft> {
  const keys = (Object.keys(saved) as (keyof Draft)[]).filter((key) => draft[key] !== saved[key]);
  return Object.fromEntries(keys.map((key) => [key, draft[key]]));
}

function draftOf({ name, language, greeting, instructions }: Persona): Draft {
  return { name, language: language ?? "", greeting: greeting ?? "", instructions };
}
