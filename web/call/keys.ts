import { type RefObject, useEffect } from "react";

const PARTS: Record<string, string> = { m: "mute", t: "chat-input" };

/** Presses a part of the panel by its key, unless somebody writes or is elsewhere on the page. */
export function useKeys(panel: RefObject<HTMLElement | null>) {
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const name = PARTS[event.key.toLowerCase()];
      const held = event.ctrlKey || event.metaKey || event.altKey || event.repeat;
      if (!name || held || !listening(panel.current)) return;
      const part = panel.current?.querySelector<HTMLElement>(`[data-testid="${name}"]`);
      event.preventDefault();
      if (part instanceof HTMLButtonElement) part.click();
      else part?.focus();
    };
    document.addEventListener("keydown", press);
    return () => document.removeEventListener("keydown", press);
  }, [panel]);
}

function listening(panel: HTMLElement | null): boolean {
  const focused = document.activeElement;
  if (focused?.matches("input, select, textarea")) return false;
  return focused === document.body || !!panel?.contains(focused);
}
