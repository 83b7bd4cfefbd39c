import useSWRInfinite from "swr/infinite";
import { type Failure, get } from "./api";

interface Page {
  next: number | null;
}

/** A list that comes in pages, each from the last entry of the one before. `path` has no `before`
 * yet, and a `?`. */
export function usePages<T extends Page>(path: string) {
  const answer = useSWRInfinite<T, Failure>(
    (at, last: T | null) => {
      if (at === 0) return path;
      return last?.next == null ? null : `${path}&before=${last.next}`;
    },
    get,
    { revalidateFirstPage: false, keepPreviousData: true },
  );
  const { data, error, isLoading, isValidating, size, setSize, mutate } = answer;
  return {
    list: { data, error, isLoading },
    busy: isValidating,
    onFirst: size === 1,
    again: () => void mutate(),
    more: data?.at(-1)?.next != null ? () => void setSize(size + 1) : null,
  };
}
