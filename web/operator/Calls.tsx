import { useAction } from "./action";
import { part, send, useGet } from "./api";
import { Badge } from "./Badge";
import { Captions } from "./Captions";
import { Confirm } from "./Confirm";
import { Figures } from "./Figures";
import { Loaded, Nothing } from "./Loaded";
import { Outcome } from "./Outcome";
import { to } from "./route";
import type { SectionProps } from "./section";
import type { Call } from "./shapes";
import { Stages } from "./Stages";
import { lasted, moment, useNow } from "./times";

/** Who calls now, and the captions of the call that is open. */
export default function Calls({ open }: SectionProps) {
  const calls = useGet<Call[]>("/api/calls");
  const action = useAction();
  function end({ room }: Call) {
    void action.run(async () => {
      const done = await send("POST", `/api/calls/${part(room)}/end`);
      void calls.mutate();
      return done;
    });
  }
  return (
    <>
      <Figures />
      <Outcome action={action} />
      <Loaded from={calls}>
        {(list) => (
          <div className="split" data-open={open !== null}>
            <section aria-label="Calls in progress">
              {list.length === 0 && (
                <Nothing title="Nobody is calling.">
                  A call appears here as soon as it begins.
                </Nothing>
              )}
              <ul className="cards">
                {list.map((call) => (
                  <Item
                    key={call.room}
                    call={call}
                    current={call.room === open}
                    busy={action.busy}
                    onEnd={() => end(call)}
                  />
                ))}
              </ul>
            </section>
            {open !== null && (
              <Captions
                key={open}
                room={open}
                call={list.find(({ room }) => room === open) ?? null}
              />
            )}
          </div>
        )}
      </Loaded>
    </>
  );
}

function Item({ call, current, busy, onEnd }: {
  call: Call;
  current: boolean;
  busy: boolean;
  onEnd: () => void;
}) {
  const now = useNow();
  const { room, caller, began_at, state, provider, language, turns, last } = call;
  const facts = [provider, language, `${turns} ${turns === 1 ? "turn" : "turns"}`];
  return (
    <li className="card call" data-current={current} data-testid="call">
      <div className="line">
        <h2>
          <a href={to("calls", room)} aria-current={current ? "true" : undefined}>
            {caller || room}
          </a>
        </h2>
        <Badge state={state} />
        <time className="number end" dateTime={began_at} title={`since ${moment(began_at)}`}>
          {lasted(began_at, now)}
        </time>
      </div>
      <p className="quiet facts">{facts.filter(Boolean).join(" · ")}</p>
      <div className="line">
        <Stages told={last?.stages_s} />
        <Confirm
          className="end small"
          label="End"
          name={`End the call of ${caller || room}`}
          title="End this call?"
          question={`${caller || room} hears nothing more and is disconnected. The session stays.`}
          yes="End the call"
          disabled={busy}
          onYes={onEnd}
        />
      </div>
    </li>
  );
}
