"use client";

import { useEffect, useRef, useState } from "react";
import { broken } from "./broken";
import { Language, preferred } from "./Language";
import { Microphone } from "./Microphone";
import { MicrophoneTest } from "./MicrophoneTest";
import { Notices } from "./Notices";
import { RUNNER_GONE } from "./notices";
import type { CallRecord } from "./record";
import { StandIns } from "./StandIns";
import { useStatus } from "./status";
import { Summary } from "./Summary";

/** The call itself, with LiveKit's client: more than half of the page, and not needed to show it. */
const loadCall = () => import("./Call");
const NO_CHOICE: string[] = [];
type Loaded = Awaited<ReturnType<typeof loadCall>>;

export function Phone() {
  const status = useStatus();
  const languages = (status.languages?.length ?? 0) > 1 ? status.languages! : NO_CHOICE;
  const [device, setDevice] = useState("");
  const [chosen, setLanguage] = useState("");
  const [trouble, setTrouble] = useState<string | null>(null);
  const [loaded, setLoaded] = useState<Loaded | null>(null); // while a call is on
  const [last, setLast] = useState<CallRecord | null>(null);
  const [wasCut, setWasCut] = useState(false); // a call was on when this page was left
  const [called, setCalled] = useState(false); // once a call is over, its button has the focus
  const [opened, setOpened] = useState(0); // how often a microphone was
  const language = languages.includes(chosen) ? chosen : preferred(languages);

  useEffect(() => setWasCut(!!broken.token()), []);

  async function call() {
    broken.forget();
    await dial();
  }

  async function dial() {
    setTrouble(null);
    try {
      setLoaded(await loadCall());
    } catch {
      setTrouble(RUNNER_GONE);
    }
    setCalled(true);
  }

  function end(sentence: string | null, record: CallRecord | null) {
    setLoaded(null);
    setWasCut(false);
    setTrouble(sentence);
    if (record) setLast(record);
  }

  const settings = (
    <div className="settings">
      <Microphone device={device} open={opened} onChoose={setDevice} />
      <Language languages={languages} language={language} onChoose={setLanguage} />
      <MicrophoneTest
        device={device}
        onOpen={() => setOpened((count) => count + 1)}
        onTrouble={setTrouble}
      />
    </div>
  );
  const preload = () => void loadCall().catch(() => {});
  return (
    <div className="page">
      <header>
        <h1>Voice agent</h1>
        <p className="lead">Call, ask by voice or by text, and hear what the documents say.</p>
      </header>
      <main>
        {loaded ? (
          <loaded.Call
            device={device}
            language={language}
            onDevice={setDevice}
            onEnd={end}
          />
        ) : (
          <section
            className="idle"
            aria-label={last ? "After the call" : "Before the call"}
            onPointerEnter={preload}
            onFocus={preload}
          >
            <div className="dialling">
              <CallButton again={!!last} focused={called} onCall={call} />
              {wasCut && (
                <button type="button" data-testid="resume" onClick={dial}>
                  Go on with your call
                </button>
              )}
              <p className="hint">Speak or type: the agent takes both.</p>
            </div>
            <Notices sentences={[trouble]} />
            {last ? (
              <>
                <Summary record={last} />
                <details className="again">
                  <summary>{language ? "Microphone and language" : "Microphone"}</summary>
                  {settings}
                </details>
              </>
            ) : (
              settings
            )}
          </section>
        )}
      </main>
      <StandIns {...status} />
    </div>
  );
}

function CallButton({ again, focused, onCall }: {
  again: boolean;
  focused: boolean;
  onCall: () => void;
}) {
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (focused) button.current?.focus();
  }, [focused]);
  return (
    <button ref={button} type="button" className="dial" data-testid="call" onClick={onCall}>
      <svg viewBox="0 0 24 24" aria-hidden="true">
        <path d="M6.6 3.5 9.2 3l1.7 4.2-1.9 1.6a11.5 11.5 0 0 0 6.2 6.2l1.6-1.9L21 14.8l-.5 2.6a3 3 0 0 1-3 2.5A14 14 0 0 1 4.1 6.5a3 3 0 0 1 2.5-3Z" />
      </svg>
      {again ? "Call again" : "Call"}
    </button>
  );
}
