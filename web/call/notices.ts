import { ConnectionError, ConnectionErrorReason, DisconnectReason } from "livekit-client";

export const NO_AGENT =
  "No agent has joined. It may be stopped, or busy with other calls: look at the runner's " +
  "terminal, or hang up and call again.";
export const AGENT_LOST = "The agent was lost. Another one is on its way …";
export const AGENT_LEFT = "The agent has left. Hang up and call again.";
export const RECONNECTING = "The connection to the LiveKit server broke. Trying to restore it …";
export const RUNNER_GONE =
  "The runner does not answer. Start it again with “make run”, then reload this page.";
export const NOT_SENT = "The message could not be sent. Try again.";

/** Told of what is wrong and what to do, or null once it is mended. */
export type OnTrouble = (sentence: string | null) => void;

/** A call that was refused, with the runner's own sentence for the caller. */
export class Refused extends Error {}

/** Why a call could not begin, and what to do; null when the caller hung up meanwhile. */
export function failure(error: unknown): string | null {
  if (error instanceof Refused) return error.message;
  if (!(error instanceof ConnectionError)) return RUNNER_GONE;
  switch (error.reason) {
    case ConnectionErrorReason.Cancelled:
      return null;
    case ConnectionErrorReason.NotAllowed:
      return (
        "The LiveKit server refused the call. Its key and secret must be those of the runner: " +
        "check LIVEKIT_API_KEY and LIVEKIT_API_SECRET."
      );
    default:
      return (
        "The LiveKit server cannot be reached. See whether it runs " +
        "(python -m runner task=doctor), then call again."
      );
  }
}

/** Whether nobody meant a call to end: it is to be dialled again. */
export function cutOff(reason: DisconnectReason | undefined): boolean {
  switch (reason) {
    case DisconnectReason.CLIENT_INITIATED:
    case DisconnectReason.ROOM_DELETED:
    case DisconnectReason.ROOM_CLOSED:
    case DisconnectReason.PARTICIPANT_REMOVED:
    case DisconnectReason.DUPLICATE_IDENTITY:
      return false;
    default:
      return true;
  }
}

/** Why a call ended, or null when the caller hung up. */
export function ending(reason: DisconnectReason | undefined): string | null {
  switch (reason) {
    case DisconnectReason.CLIENT_INITIATED:
      return null;
    case DisconnectReason.ROOM_DELETED:
    case DisconnectReason.ROOM_CLOSED:
    case DisconnectReason.PARTICIPANT_REMOVED:
      return "The call was ended at the other side.";
    case DisconnectReason.DUPLICATE_IDENTITY:
      return "This call goes on in another window.";
    case DisconnectReason.SERVER_SHUTDOWN:
      return "The LiveKit server was stopped. Call again when it is back.";
    default:
      return "The connection was lost. Check that the runner still runs, then call again.";
  }
}

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
