import { useAction } from "./action";
import { send, useGet } from "./api";
import { Confirm } from "./Confirm";
import { Diff } from "./Diff";
import { Loaded, Nothing } from "./Loaded";
import { Outcome } from "./Outcome";
import type { Persona, Version } from "./shapes";
import { moment } from "./times";

/** Every version of instructions, the latest first, each with what changed. */
export function History({ persona, onRestored }: {
  persona: Persona;
  onRestored: () => Promise<void>;
}) {
  const versions = useGet<Version[]>(`/api/instructions/${persona.id}/history`);
  const action = useAction();
  const restore = ({ version }: Version) =>
    void action.run(async () => {
      const done = await send("POST", `/api/instructions/history/${version}/restore`);
      await onRestored();
      void versions.mutate();
      return done;
    });
  return (
    <>
      <Outcome action={action} />
      <Loaded from={versions}>
        {(list) => (
          <ol className="versions">
            {list.length === 0 && <Nothing title="Nothing was changed yet." />}
            {list.map((one, at) => (
              <li key={one.version} data-testid="version">
                <div className="line">
                  <h3>Version {one.version}</h3>
                  <span className="quiet">
                    {[one.change, moment(one.changed_at), one.changed_by].filter(Boolean).join(" · ")}
                  </span>
                  {at > 0 && (
                    <Confirm
                      className="end small"
                      label="Put back"
                      name={`Put back version ${one.version}`}
                      title={`Put version ${one.version} back?`}
                      question="The text becomes what it was then. The history keeps what it is now."
                      yes="Put it back"
                      disabled={action.busy}
                      onYes={() => restore(one)}
                    />
                  )}
                </div>
                <Diff before={list[at + 1]?.content ?? null} after={one.content} />
              </li>
            ))}
          </ol>
        )}
      </Loaded>
    </>
  );
}
