import { type SubmitEvent, useState } from "react";
import { useAction } from "./action";
import { send } from "./api";
import { Outcome } from "./Outcome";

/** The form for the operator's token. */
export function Login({ onOpen }: { onOpen: () => void }) {
  const [token, setToken] = useState("");
  const action = useAction();
  async function submit(event: SubmitEvent) {
    event.preventDefault();
    if (await action.run(() => send("POST", "/api/login", { token }))) onOpen();
  }
  return (
    <main className="login">
      <form className="card" onSubmit={submit}>
        <h1>Operator</h1>
        <p className="quiet">
          This page is for who looks after the agent. The token is in the environment variable that{" "}
          <code>operator.token_env</code> names.
        </p>
        <label>
          Token
          <input
            type="password"
            autoComplete="current-password"
            autoFocus
            required
            value={token}
            onChange={(event) => setToken(event.target.value)}
          />
        </label>
        <Outcome action={action} />
        <button type="submit" className="primary" disabled={action.busy || !token}>
          Log in
        </button>
      </form>
    </main>
  );
}
