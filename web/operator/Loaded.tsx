import type { ReactNode } from "react";
import type { SWRResponse } from "swr";
import type { Failure } from "./api";

/** What was asked for, once it is there; until then why not. What is there stays while it fails. */
export function Loaded<T>({ from, children }: {
  from: Pick<SWRResponse<T, Failure>, "data" | "error" | "isLoading">;
  children: (data: T) => ReactNode;
}) {
  const { data, error } = from;
  return (
    <>
      <div role="alert">{error && <p className="notice bad">{error.message}</p>}</div>
      {data !== undefined ? children(data) : !error && <p className="waiting">Loading …</p>}
    </>
  );
}

/** What stands where a list would be. */
export function Nothing({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="nothing">
      <p>{title}</p>
      {children && <p className="quiet">{children}</p>}
    </div>
  );
}
