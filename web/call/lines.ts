import {
  useChat,
  useLocalParticipant,
  useTextStream,
  useTranscriptions,
  type TextStreamData,
} from "@livekit/components-react";
import { useMemo, useRef } from "react";
import { parseAnswer, type Turn } from "./turn";

/** One side's words in the transcript. `final`: they will not change any more. */
export interface Line {
  id: string;
  role: "user" | "assistant";
  text: string;
  final: boolean;
  turn: Turn | null;
}

/** What is said and typed in the room of the context, in the order in which it was first seen. */
export function useLines(): Line[] {
  const { localParticipant } = useLocalParticipant();
  const spoken = useTranscriptions();
  const { chatMessages } = useChat();
  const { textStreams: turns } = useTextStream("runner.turn");
  const seen = useRef(new Map<string, number>());

  return useMemo(() => {
    const lines = [
      ...spoken.map((stream) => spokenLine(stream, localParticipant.identity)),
      ...chatMessages.map(({ id, from, message }) => line(id, !!from?.isLocal, message)),
      ...turns.flatMap(({ text, streamInfo }) => {
        const turn = parseAnswer(text);
        return turn ? [{ ...line(streamInfo.id, false, turn.text), turn }] : [];
      }),
    ];
    for (const { id } of lines) {
      if (!seen.current.has(id)) seen.current.set(id, seen.current.size);
    }
    const first = ({ id }: Line) => seen.current.get(id) ?? 0;
    return joined(lines.filter(({ text }) => text.trim()).sort((a, b) => first(a) - first(b)));
  }, [spoken, chatMessages, turns, localParticipant.identity]);
}

function line(id: string, byCaller: boolean, text: string): Line {
  return { id, role: byCaller ? "user" : "assistant", text, final: true, turn: null };
}

function spokenLine({ text, participantInfo, streamInfo }: TextStreamData, caller: string): Line {
  const attributes = streamInfo.attributes ?? {};
  const id = attributes["lk.segment_id"] ?? streamInfo.id;
  return {
    ...line(id, participantInfo.identity === caller, text),
    final: attributes["lk.transcription_final"] !== "false",
  };
}

/** Each turn moved to the spoken line that it tells of; an answer that was not heard stays. */
function joined(lines: Line[]): Line[] {
  const spoken = lines.filter(({ role, turn }) => role === "assistant" && !turn);
  const moved = lines.filter((told) => {
    const line = told.turn && spoken.find((one) => !one.turn && alike(one.text, told.text));
    if (line) line.turn = told.turn;
    return line;
  });
  return lines.filter((line) => !moved.includes(line));
}

/** Whether two texts are one as far as the shorter goes: an interrupted answer is cut off. */
function alike(text: string, other: string): boolean {
  const letters = (words: string) => words.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
  const [a, b] = [letters(text), letters(other)];
  return a !== "" && b !== "" && (a.startsWith(b) || b.startsWith(a));
}
