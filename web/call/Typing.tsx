import { useChat } from "@livekit/components-react";
import { type SubmitEvent, useState } from "react";
import { NOT_SENT, type OnTrouble } from "./notices";

/** Text instead of speech. */
export function Typing({ ready, onTrouble }: {
  ready: boolean;
  onTrouble: OnTrouble;
}) {
  const { send, isSending } = useChat();
  const [text, setText] = useState("");
  async function submit(event: SubmitEvent) {
    event.preventDefault();
    if (!text.trim()) return;
    try {
      await send(text.trim());
      setText("");
    } catch {
      onTrouble(NOT_SENT);
    }
  }
  return (
    <form className="typing" onSubmit={submit}>
      <input
        data-testid="chat-input"
        aria-label="Message"
        aria-keyshortcuts="t"
        placeholder="Or type a message"
        autoComplete="off"
        maxLength={2000}
        value={text}
        disabled={!ready}
        onChange={(event) => setText(event.target.value)}
      />
      <button type="submit" disabled={!ready || isSending || !text.trim()}>
        Send
      </button>
    </form>
  );
}
