import { Switch } from "@base-ui/react/switch";
import { useState } from "react";
import { useAction } from "./action";
import { part, send, useGet } from "./api";
import { Badge } from "./Badge";
import { Loaded, Nothing } from "./Loaded";
import { Outcome } from "./Outcome";
import type { Provider, Providers as State } from "./shapes";

const PATH = "/api/providers";

/** What the states of a breaker mean, but the one in which all is well. */
const MEANINGS: Record<string, string> = {
  open: "It is left alone, and probed now and then.",
  "half-open": "A probe is on its way.",
  resting: "It asked for a pause.",
};

/** Who hears, thinks and speaks, how that goes, and who is asked at all. */
export default function Providers() {
  const state = useGet<State>(PATH);
  return (
    <Loaded from={state}>
      {({ permits, providers, window_s }) => {
        const capabilities = [...new Set(providers.map(({ capability }) => capability))];
        return (
          <>
            <Permits {...permits} />
            {capabilities.length === 0 && (
              <Nothing title="No provider was asked yet.">They appear with the first call.</Nothing>
            )}
            {capabilities.map((capability) => (
              <section key={capability} aria-labelledby={`of-${capability}`}>
                <h2 id={`of-${capability}`}>{capability}</h2>
                <ul className="cards providers">
                  {providers
                    .filter((one) => one.capability === capability)
                    .map((one) => (
                      <Item key={one.name} provider={one} onChange={() => void state.mutate()} />
                    ))}
                </ul>
              </section>
            ))}
            {providers.length > 0 && (
              <p className="quiet foot">Failures are those of the last {Math.round(window_s / 60)} minutes.</p>
            )}
          </>
        );
      }}
    </Loaded>
  );
}

function Permits({ allowed, in_flight, waiting }: State["permits"]) {
  return (
    <section className="card permits" aria-labelledby="permits">
      <div className="line">
        <h2 id="permits">Requests with language models</h2>
        <span className="number end">
          {in_flight} of {allowed}
        </span>
      </div>
      <meter aria-label="Permits in use" value={in_flight} max={allowed} high={allowed * 0.8}>
        {in_flight} of {allowed}
      </meter>
      <p className={waiting > 0 ? "reason" : "quiet"}>
        {waiting > 0 ? `${waiting} wait for a permit.` : "Nobody waits for a permit."}
      </p>
    </section>
  );
}

function Item({ provider, onChange }: { provider: Provider; onChange: () => void }) {
  const { capability, name, state, reason, off } = provider;
  const [wanted, setWanted] = useState<boolean | null>(null); // until the server has it
  const action = useAction();
  async function turn(on: boolean) {
    setWanted(on);
    await action.run(() => send("PUT", `${PATH}/${part(capability)}/${part(name)}`, { off: !on }));
    onChange();
    setWanted(null);
  }
  return (
    <li className="card" data-off={off} data-testid="provider">
      <div className="line">
        <h3>{name}</h3>
        <Badge state={off ? "off" : state} tone={off ? "plain" : undefined} />
        <Switch.Root
          className="switch end"
          checked={wanted ?? !off}
          disabled={action.busy}
          aria-label={`Ask ${name} for ${capability}`}
          onCheckedChange={turn}
        >
          <Switch.Thumb className="thumb" />
        </Switch.Root>
      </div>
      <Errors {...provider} />
      {!off && MEANINGS[state] && <p className="quiet">{MEANINGS[state]}</p>}
      {reason && <p className="reason">{reason}</p>}
      <Outcome action={action} />
    </li>
  );
}

/** "3 of 120 failed (2.5 %): silent 2, cut 1". */
function Errors({ requests, failures, error_rate, errors }: Provider) {
  if (requests === 0) return <p className="quiet">Not asked lately.</p>;
  const reasons = Object.entries(errors).sort(([, a], [, b]) => b - a);
  return (
    <p className="quiet">
      {failures} of {requests} failed ({percent(error_rate)})
      {reasons.length > 0 && `: ${reasons.map(([name, count]) => `${name} ${count}`).join(", ")}`}
    </p>
  );
}

/** "2.5 %", "40 %". */
function percent(share: number): string {
  return `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
}
