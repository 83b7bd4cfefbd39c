import { useGet } from "./api";
import { Badge } from "./Badge";
import { Loaded, Nothing } from "./Loaded";
import { PersonaPage } from "./PersonaPage";
import { to } from "./route";
import type { SectionProps } from "./section";
import type { Persona } from "./shapes";

const PATH = "/api/instructions";
const NEW = "new"; // in the address, where a number would stand

/** Who the agent is: the list, and the one that is open. */
export default function Instructions({ open }: SectionProps) {
  const personas = useGet<Persona[]>(PATH);
  return (
    <>
      <p className="lead">
        Who the agent is and how it greets. The next caller gets what is saved here; calls in
        progress keep what they began with.
      </p>
      <Loaded from={personas}>
        {(list) => (
          <div className="split aside" data-open={open !== null}>
            <nav aria-label="Instructions">
              <ul className="choices">
                {list.map((one) => (
                  <Choice key={one.id} persona={one} current={String(one.id) === open} />
                ))}
              </ul>
              {list.length === 0 && <Nothing title="There are no instructions yet." />}
              <a className="button" href={to("instructions", NEW)}>
                New instructions
              </a>
            </nav>
            <Opened list={list} open={open} onChange={() => personas.mutate()} />
          </div>
        )}
      </Loaded>
    </>
  );
}

function Choice({ persona, current }: { persona: Persona; current: boolean }) {
  const { id, name, language, is_active, in_use } = persona;
  return (
    <li>
      <a href={to("instructions", id)} aria-current={current ? "true" : undefined}>
        <span>{name}</span>
        <span className="quiet">{language ?? "any language"}</span>
        {is_active && <Badge state={in_use ? "in use" : "active"} tone={in_use ? "good" : "plain"} />}
      </a>
    </li>
  );
}

function Opened({ list, open, onChange }: {
  list: Persona[];
  open: string | null;
  onChange: () => Promise<unknown>;
}) {
  if (open === null) return <Nothing title="Choose instructions to read or to edit them." />;
  const persona = list.find(({ id }) => String(id) === open) ?? null;
  if (!persona && open !== NEW) return <Nothing title="These instructions are not there any more." />;
  return <PersonaPage key={open} persona={persona} onChange={onChange} />;
}
