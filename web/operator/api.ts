import useSWR, { type SWRResponse } from "swr";

const GONE =
  "The runner does not answer. Start it again with “make run”: this page then goes on by itself.";
const ODD = "The runner's answer could not be read. Look at its log.";

/** A failure, as the server's own sentence. `status`: HTTP's; 0: nobody answered. */
export class Failure extends Error {
  constructor(
    sentence: string,
    readonly status: number,
  ) {
    super(sentence);
  }
}

/** A change was made: the server's sentence. */
export interface Done {
  done: string;
}

/** The JSON that `GET path` answers. */
export function get<T>(path: string): Promise<T> {
  return ask<T>(path, {});
}

/** Changes something: `body` as JSON, or as a form with a file. */
export function send<T extends Done = Done>(
  method: "POST" | "PUT" | "DELETE",
  path: string,
  body?: unknown,
): Promise<T> {
  const headers: Record<string, string> = { "X-Runner": "1" }; // no other site can send it
  if (body instanceof FormData) return ask<T>(path, { method, headers, body });
  headers["Content-Type"] = "application/json";
  return ask<T>(path, { method, headers, body: JSON.stringify(body ?? {}) });
}

/** What `GET path` answers, kept for all who look at it; null: nothing is asked. */
export function useGet<T>(path: string | null): SWRResponse<T, Failure> {
  return useSWR<T, Failure>(path, get);
}

/** A part of a path: names come from callers and from files. */
export const part = encodeURIComponent;

async function ask<T>(path: string, init: RequestInit): Promise<T> {
  const answer = await fetch(path, init).catch(() => {
    throw new Failure(GONE, 0);
  });
  const body: unknown = await answer.json().catch(() => {
    throw new Failure(ODD, answer.status);
  });
  if (!answer.ok) throw new Failure(sentence(body), answer.status);
  return body as T;
}

function sentence(body: unknown): string {
  const told = body !== null && typeof body === "object" && "error" in body ? body.error : null;
  return typeof told === "string" ? told : ODD;
}
