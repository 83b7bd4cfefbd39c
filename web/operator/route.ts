import { useSyncExternalStore } from "react";

/** The section in the address's fragment, and what is open in it: `#sessions/ID`. */
export interface Route {
  section: string;
  open: string | null;
}

/** The fragment that leads to a section, and to one thing in it. */
export function to(section: string, open?: string | number): string {
  return open === undefined ? `#${section}` : `#${section}/${encodeURIComponent(open)}`;
}

export function useRoute(): Route {
  const hash = useSyncExternalStore(
    (changed) => {
      window.addEventListener("hashchange", changed);
      return () => window.removeEventListener("hashchange", changed);
    },
    () => window.location.hash,
    () => "",
  );
  const [section = "", open] = hash.slice(1).split("/", 2);
  return { section, open: open ? decoded(open) : null };
}

function decoded(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null; // typed by hand
  }
}
