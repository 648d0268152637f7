// Where a model of some size would fit on this machine. A model needs about a fifth more than its files when it runs.
import type { Resources } from "@contract";

export type Fit = "vram" | "ram" | "partly" | "none" | "unknown";

const OVERHEAD = 1.2;
const GIB = 1024 ** 3;

/** `size` in bytes; memory is in GiB, as the sidecar reports it. */
export function fitOf(size: number, resources: Pick<Resources, "gpus" | "ram"> | undefined): Fit {
  if (resources === undefined || size <= 0) return "unknown";
  const need = (size * OVERHEAD) / GIB;
  const vram = resources.gpus.reduce((sum, gpu) => sum + gpu.memory_total, 0);
  const ram = resources.ram.total;
  if (vram >= need) return "vram";
  if (vram > 0) return vram + ram >= need ? "partly" : "none";
  return ram >= need ? "ram" : "none";
}
