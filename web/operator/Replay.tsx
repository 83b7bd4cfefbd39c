import { part, useGet } from "./api";
import { Badge } from "./Badge";
import { Loaded, Nothing } from "./Loaded";
import { to } from "./route";
import { Said } from "./Said";
import type { Message, Recording } from "./shapes";
import { lasted, moment, seconds } from "./times";

/** A whole conversation, each answer with its timings and who served it. */
export function Replay({ id }: { id: string }) {
  const path = `/api/sessions/${part(id)}`;
  const recording = useGet<Recording>(path);
  return (
    <>
      <p className="crumbs">
        <a href={to("sessions")}>← All sessions</a>
      </p>
      <Loaded from={recording}>
        {({ session, messages }) => (
          <article className="replay">
            <Summary session={session} messages={messages} />
            {messages.length === 0 && (
              <Nothing title="Nothing was said in this session." />
            )}
            <ol className="said whole">
              {messages.map(({ role, content, created_at, metadata }, at) => (
                <Said
                  key={at}
                  role={role}
                  text={content}
                  told={metadata}
                  at={lasted(session.began_at, created_at)}
                />
              ))}
            </ol>
            <p className="quiet">
              <a href={path} download={`session-${session.session_id}.json`}>
                Download as JSON
              </a>
            </p>
          </article>
        )}
      </Loaded>
    </>
  );
}

function Summary({ session, messages }: Recording) {
  const times = answers(messages);
  const facts: [string, string][] = [
    ["Began", moment(session.began_at)],
    ["Lasted", session.ended_at ? lasted(session.began_at, session.ended_at) : "not ended"],
    ["Caller", session.caller ?? "–"],
    ["Room", session.room ?? "–"],
    ["Provider", session.provider ?? "–"],
    ["Language", session.language ?? "–"],
    ["Answers", String(times.length)],
    ["Median answer", seconds(times[Math.floor(times.length / 2)])],
    ["Slowest answer", seconds(times.at(-1))],
  ];
  return (
    <header className="card summary">
      <div className="line">
        <h2 className="mono">{session.session_id}</h2>
        <Badge state={session.status} tone={session.status === "active" ? "good" : "plain"} />
      </div>
      <dl className="facts-list">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd className="number">{value}</dd>
          </div>
        ))}
      </dl>
    </header>
  );
}

/** The time of each answer that somebody waited for, the shortest first. */
function answers(messages: Message[]): number[] {
  return messages
    .filter(({ role }) => role === "assistant")
    .map(({ metadata }) => metadata?.stages_s?.e2e)
    .filter((time): time is number => time != null)
    .sort((a, b) => a - b);
}
