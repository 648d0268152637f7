// State of a view that survives leaving it for another one, until the page is closed.
import { useCallback, useState } from "react";

const kept = new Map<string, unknown>();

export function useKept<T>(key: string, initial: T): [T, (value: T | ((now: T) => T)) => void] {
  const [value, setValue] = useState<T>(() => (kept.has(key) ? (kept.get(key) as T) : initial));
  const change = useCallback(
    (next: T | ((now: T) => T)) =>
      setValue((now) => {
        const chosen = next instanceof Function ? next(now) : next;
        kept.set(key, chosen);
        return chosen;
      }),
    [key],
  );
  return [value, change];
}
