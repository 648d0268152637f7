// State of a view that survives leaving it for another one, until the page is closed.
import { useCallback, useState } from "react";

const kept = new Map<string, unknown>();

export function useKept<T>(key: string, initial: T): [T, (value: T) => void] {
  const [value, setValue] = useState<T>(() => (kept.has(key) ? (kept.get(key) as T) : initial));
  const change = useCallback(
    (next: T) => {
      kept.set(key, next);
      setValue(next);
    },
    [key],
  );
  return [value, change];
}
