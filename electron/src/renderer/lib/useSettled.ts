import { useQueryClient, type QueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";

const LATEST_MS = 2000;

/** True once the first view has its answers and the browser nothing to do: what can wait asks for its own then. */
export function useSettled(): boolean {
  const queries = useQueryClient();
  const [settled, setSettled] = useState(false);
  useEffect(() => onceSettled(queries, () => setSettled(true)), [queries]);
  return settled;
}

/** Calls back once; returns how to give up waiting. */
export function onceSettled(queries: QueryClient, then: () => void): () => void {
  let idle = 0;
  const look = () => {
    cancelIdleCallback(idle);
    idle = requestIdleCallback(() => {
      if (queries.isFetching() === 0) done();
    });
  };
  const stop = () => {
    cancelIdleCallback(idle);
    clearTimeout(latest);
    unwatch();
  };
  const done = () => {
    stop();
    then();
  };
  const unwatch = queries.getQueryCache().subscribe(look);
  const latest = setTimeout(done, LATEST_MS); // a page that nobody looks at is never idle
  look();
  return stop;
}
