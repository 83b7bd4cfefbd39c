import { ConnectionError, ConnectionErrorReason, DisconnectReason } from "livekit-client";
import { RUNNER_GONE } from "./notices";

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
