import { useCallback, useState } from "react";
import { type Done, Failure } from "./api";

/** Something that the operator does: whether it is on its way, and what came of it. */
export interface Action {
  busy: boolean;
  trouble: string | null;
  done: string | null;
  /** Carries out `work`, and tells what the server says of it. True: it succeeded. */
  run: (work: () => Promise<Done>) => Promise<boolean>;
}

export function useAction(): Action {
  const [busy, setBusy] = useState(false);
  const [trouble, setTrouble] = useState<string | null>(null);
  const [done, setDone] = useState<string | null>(null);
  const run = useCallback(async (work: () => Promise<Done>) => {
    setBusy(true);
    setTrouble(null);
    setDone(null);
    try {
      setDone((await work()).done);
      return true;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      setTrouble(error.message);
      return false;
    } finally {
      setBusy(false);
    }
  }, []);
  return { busy, trouble, done, run };
}
