"use client";

import { CSPProvider } from "@base-ui/react/csp-provider";
import { type ComponentType, lazy, Suspense, useEffect, useRef, useState } from "react";
import { SWRConfig, useSWRConfig } from "swr";
import { type Failure, useGet } from "./api";
import { type Link, useEvents } from "./events";
import { Login } from "./Login";
import { to, useRoute } from "./route";
import type { SectionProps } from "./section";
import type { Call, Documents, Providers } from "./shapes";

interface Section {
  key: string;
  title: string;
  show: ComponentType<SectionProps>;
}

/** Each is a file of its own, fetched when it is first opened. */
const GROUPS: { title: string; sections: Section[] }[] = [
  {
    title: "Now",
    sections: [
      { key: "calls", title: "Calls", show: lazy(() => import("./Calls")) },
      { key: "plots", title: "Plots", show: lazy(() => import("./Plots")) },
      { key: "providers", title: "Providers", show: lazy(() => import("./Providers")) },
      { key: "health", title: "Health", show: lazy(() => import("./Health")) },
    ],
  },
  {
    title: "Agent",
    sections: [
      { key: "instructions", title: "Instructions", show: lazy(() => import("./Instructions")) },
      { key: "documents", title: "Documents", show: lazy(() => import("./Documents")) },
      { key: "settings", title: "Settings", show: lazy(() => import("./Settings")) },
      { key: "configuration", title: "Configuration", show: lazy(() => import("./Configuration")) },
    ],
  },
  {
    title: "Past",
    sections: [
      { key: "sessions", title: "Sessions", show: lazy(() => import("./Sessions")) },
      { key: "audit", title: "Audit", show: lazy(() => import("./Audit")) },
    ],
  },
];
const SECTIONS = GROUPS.flatMap(({ sections }) => sections);

export function Operator() {
  const [locked, setLocked] = useState(false);
  const settings = {
    revalidateOnFocus: false,
    revalidateOnReconnect: false,
    revalidateIfStale: true,
    shouldRetryOnError: false, // events.ts knows when to ask again
    onError: (error: Failure) => setLocked((before) => before || error.status === 401),
  };
  return (
    <CSPProvider disableStyleElements>
      <SWRConfig value={settings}>
        {locked ? <Gate onOpen={() => setLocked(false)} /> : <Desk />}
      </SWRConfig>
    </CSPProvider>
  );
}

/** Asks for the token; what was refused is forgotten. */
function Gate({ onOpen }: { onOpen: () => void }) {
  const { mutate } = useSWRConfig();
  return (
    <Login
      onOpen={() => {
        void mutate(() => true, undefined, { revalidate: false });
        onOpen();
      }}
    />
  );
}

function Desk() {
  const link = useEvents(true);
  const { section, open } = useRoute();
  const [menu, setMenu] = useState(false);
  const heading = useRef<HTMLHeadingElement>(null);
  const arrived = useRef(false);
  const { key, title, show: Show } = SECTIONS.find(({ key }) => key === section) ?? SECTIONS[0]!;
  const notes = useNotes();

  useEffect(() => {
    const calls = notes.calls?.text;
    document.title = `${calls ? `(${calls}) ` : ""}${title} · Operator`;
  }, [title, notes.calls?.text]);

  useEffect(() => {
    setMenu(false);
    if (arrived.current) heading.current?.focus(); // who chose a section is taken there
    arrived.current = true;
  }, [key]);

  return (
    <div className="desk" data-menu={menu}>
      <header className="side">
        <a className="skip" href={to(key)} onClick={() => heading.current?.focus()}>
          Skip to the content
        </a>
        <div className="brand">
          <p>Operator</p>
          <LinkState link={link} />
          <button
            type="button"
            className="menu"
            aria-expanded={menu}
            aria-controls="sections"
            onClick={() => setMenu(!menu)}
          >
            Menu
          </button>
        </div>
        <nav id="sections" aria-label="Sections">
          {GROUPS.map((group) => (
            <div key={group.title}>
              <p aria-hidden="true">{group.title}</p>
              <ul aria-label={group.title}>
                {group.sections.map((one) => (
                  <li key={one.key}>
                    <a href={to(one.key)} aria-current={one.key === key ? "page" : undefined}>
                      {one.title}
                      {notes[one.key] && <Note {...notes[one.key]!} />}
                    </a>
                  </li>
                ))}
              </ul>
            </div>
          ))}
        </nav>
      </header>
      <main>
        {link === "lost" && (
          <p className="notice bad" role="alert">
            The connection to the runner is lost: what is shown may be old. Trying again …
          </p>
        )}
        <h1 ref={heading} tabIndex={-1}>
          {title}
        </h1>
        <Suspense fallback={<p className="waiting">Loading …</p>}>
          <Show open={open} />
        </Suspense>
      </main>
    </div>
  );
}

const LINK_WORDS: Record<Link, string> = {
  connecting: "Connecting …",
  live: "Live",
  lost: "Connection lost",
};

function LinkState({ link }: { link: Link }) {
  return (
    <p className="link-state" data-link={link} data-testid="link" role="status">
      {LINK_WORDS[link]}
    </p>
  );
}

interface NoteProps {
  text: string;
  about: string;
  bad?: boolean;
}

function Note({ text, about, bad }: NoteProps) {
  return (
    <span className="note" data-bad={bad}>
      {text}
      <span className="visually-hidden"> {about}</span>
    </span>
  );
}

/** What the names of the sections tell of them. */
function useNotes(): Record<string, NoteProps | undefined> {
  const calls = useGet<Call[]>("/api/calls").data?.length ?? 0;
  const providers = useGet<Providers>("/api/providers").data?.providers ?? [];
  const files = useGet<Documents>("/api/documents").data?.files ?? [];
  const failed = files.filter(({ status }) => status === "failed").length;
  const down = providers.filter(({ state, off }) => state === "open" && !off).length;
  return {
    calls: calls ? { text: String(calls), about: "in progress" } : undefined,
    providers: down ? { text: String(down), about: "not asked now", bad: true } : undefined,
    documents: failed ? { text: String(failed), about: "not indexed", bad: true } : undefined,
  };
}
