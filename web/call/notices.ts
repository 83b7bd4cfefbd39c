export const NO_AGENT =
  "No agent has joined. It may be stopped, or busy with other calls: look at the runner's " +
  "terminal, or hang up and call again.";
export const AGENT_LOST = "The agent was lost. Stay on this page: another one takes the call over.";
export const AGENT_LEFT = "The agent has left. Hang up and call again.";
export const RECONNECTING =
  "The connection to the LiveKit server broke. Stay on this page: it goes on with your call.";
export const RUNNER_GONE =
  "The runner does not answer. Start it again with “make run”, then reload this page.";
export const NOT_SENT = "The message could not be sent. Try again.";

/** Told of what is wrong and what to do, or null once it is mended. */
export type OnTrouble = (sentence: string | null) => void;

/** What is wrong with the microphone, and what to do: mend it, and then press `button`. */
export function microphoneTrouble(error: unknown, button: string): string {
  const again = `then press “${button}”. You can also call without one, and type.`;
  if (!window.isSecureContext) {
    return `Browsers give a microphone to https and localhost only: open this page there, ${again}`;
  }
  switch (error instanceof Error ? error.name : "") {
    case "NotAllowedError":
    case "SecurityError":
      return `The microphone is blocked. Allow it for this page beside its address, ${again}`;
    case "NotFoundError":
    case "OverconstrainedError":
      return `No microphone was found. Plug one in, ${again}`;
    case "NotReadableError":
    case "AbortError":
      return `The microphone is in use by another program. Close that program, ${again}`;
    default:
      return `The microphone could not be started. See that it works elsewhere, ${again}`;
  }
}
