import { QueryClient } from "@tanstack/react-query";
import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { onceSettled } from "./useSettled";

let idle: Map<number, () => void>;
let queries: QueryClient;
beforeEach(() => {
  vi.useFakeTimers();
  idle = new Map();
  let next = 1;
  vi.stubGlobal("requestIdleCallback", (work: () => void) => {
    idle.set(next, work);
    return next++;
  });
  vi.stubGlobal("cancelIdleCallback", (id: number) => idle.delete(id));
  queries = new QueryClient();
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

function becomeIdle(): void {
  const waiting = [...idle.values()];
  idle.clear();
  for (const work of waiting) work();
}

it("waits for the answers that are on their way", async () => {
  const told = vi.fn();
  onceSettled(queries, told);
  let answer: (value: string) => void = () => undefined;
  const asked = queries.query({
    queryKey: ["search"],
    queryFn: () => new Promise<string>((resolve) => (answer = resolve)),
  });
  becomeIdle();
  expect(told).not.toHaveBeenCalled();
  answer("found");
  await asked;
  await vi.advanceTimersByTimeAsync(1);
  becomeIdle();
  expect(told).toHaveBeenCalledOnce();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(told).toHaveBeenCalledOnce();
});

it("does not wait for ever, and not at all once nobody cares", async () => {
  const told = vi.fn();
  onceSettled(queries, told);
  const unwanted = vi.fn();
  onceSettled(queries, unwanted)();
  await vi.advanceTimersByTimeAsync(2000);
  expect(told).toHaveBeenCalledOnce();
  becomeIdle();
  expect(unwanted).not.toHaveBeenCalled();
  expect(idle.size).toBe(0);
});
