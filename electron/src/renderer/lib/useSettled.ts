import { useEffect, useState } from "react";

const LATEST_MS = 800;

/** True once the first view had its time: what can wait asks for its answers then. */
export function useSettled(): boolean {
  const [settled, setSettled] = useState(false);
  useEffect(() => {
    const id = requestIdleCallback(() => setSettled(true), { timeout: LATEST_MS });
    return () => cancelIdleCallback(id);
  }, []);
  return settled;
}
