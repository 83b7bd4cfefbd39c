import { RoomContext } from "@livekit/components-react";
import type { Room } from "livekit-client";
import { useEffect, useRef, useState } from "react";
import { broken } from "./broken";
import { dial } from "./dialling";
import type { Line } from "./lines";
import type { CallRecord } from "./record";
import { Talk } from "./Talk";

/** A call from the moment it is dialled. `onEnd`: told once why it is over (null: the caller hung
 * up), with what was said (null: it did not begin). */
export function Call({ device, language, onDevice, onEnd }: {
  device: string;
  language: string;
  onDevice: (device: string) => void;
  onEnd: (sentence: string | null, record: CallRecord | null) => void;
}) {
  const [room, setRoom] = useState<Room | null>(null);
  const [earlier, setEarlier] = useState<Line[]>([]); // of this call, before it was cut off
  const [began, setBegan] = useState<Date | null>(null);
  const record = useRef<{ began: Date | null; lines: Line[] }>({ began: null, lines: [] });
  const dials = useRef(0);
  const leave = useRef(() => {});

  useEffect(() => {
    leave.current = dial(
      { device, language },
      {
        onRoom: (next) => {
          dials.current += 1;
          setEarlier(record.current.lines);
          setRoom(next);
        },
        onEnd: end,
      },
    );
    return () => leave.current();
  }, []);

  function end(sentence: string | null) {
    const { began, lines } = record.current;
    onEnd(sentence, began && { began, ended: new Date(), lines });
  }

  function hangUp() {
    broken.forget();
    leave.current();
    end(null);
  }

  function begin() {
    record.current.began ??= new Date();
    setBegan(record.current.began);
  }

  if (!room) return null;
  return (
    <RoomContext.Provider key={dials.current} value={room}>
      <Talk
        device={device}
        began={began}
        earlier={earlier}
        onBegin={begin}
        onDevice={onDevice}
        onLines={(lines) => {
          record.current.lines = lines;
        }}
        onHangUp={hangUp}
      />
    </RoomContext.Provider>
  );
}
