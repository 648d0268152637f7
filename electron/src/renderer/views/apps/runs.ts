import { useCall } from "../../client/hooks";
import type { Process } from "@contract";

/** The apps that run now; events make the answer out of date. */
export function useRuns(): readonly Process[] {
  return useCall("list_processes", {}).data?.processes ?? [];
}
