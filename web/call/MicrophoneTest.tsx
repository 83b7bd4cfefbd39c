import { useEffect, useRef, useState } from "react";
import { listen } from "./level";
import { microphoneTrouble, type OnTrouble } from "./notices";

const HEARD = 0.35; // louder than a quiet room
const START = "Test the microphone";

/** Shows how loud the microphone is, until it is stopped. `onOpen`: it is open now. */
export function MicrophoneTest({ device, onOpen, onTrouble }: {
  device: string;
  onOpen: () => void;
  onTrouble: OnTrouble;
}) {
  const [on, setOn] = useState(false);
  const [heard, setHeard] = useState(false);
  const meter = useRef<HTMLDivElement>(null);

  useEffect(() => {
    if (!on) return;
    let over = false;
    let close = () => {};
    setHeard(false);
    const show = (level: number) => {
      meter.current?.style.setProperty("--level", level.toFixed(3));
      meter.current?.setAttribute("aria-valuenow", Math.round(level * 100).toString());
      if (level > HEARD) setHeard(true);
    };
    listen(device, show).then(
      (stop) => {
        if (over) return stop();
        close = stop;
        onTrouble(null);
        onOpen();
      },
      (error) => {
        setOn(false);
        onTrouble(microphoneTrouble(error, START));
      },
    );
    return () => {
      over = true;
      close();
    };
  }, [on, device]);

  return (
    <div className="test">
      <button type="button" data-testid="test" onClick={() => setOn(!on)}>
        {on ? "Stop the test" : START}
      </button>
      {on && (
        <>
          <div
            ref={meter}
            className="meter"
            role="meter"
            aria-label="Level of the microphone"
            aria-valuemin={0}
            aria-valuemax={100}
            aria-valuenow={0}
            data-testid="level"
          />
          <p role="status">{heard ? "You can be heard." : "Say something …"}</p>
        </>
      )}
    </div>
  );
}
