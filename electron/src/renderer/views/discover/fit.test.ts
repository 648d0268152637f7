import { expect, it } from "vitest";

import type { NamedGpu } from "@contract";
import { fitOf } from "./fit";

const GIB = 1024 ** 3;
const gpu = (memory_total: number): NamedGpu => ({ name: "x", usage: 0, memory: 0, memory_total, temp: null });
const machine = (vram: number[], ram: number) => ({ gpus: vram.map(gpu), ram: { usage: 0, used: 0, total: ram } });

it.each([
  [10, [12], 32, "vram"],
  [10.1, [12], 32, "partly"],
  [20, [12, 12], 32, "vram"],
  [60, [12], 32, "none"],
  [20, [], 32, "ram"],
  [30, [], 32, "none"],
  [0, [12], 32, "unknown"],
] as const)("%d GiB with %j GiB of VRAM and %d of RAM: %s", (size, vram, ram, fit) => {
  expect(fitOf(size * GIB, machine([...vram], ram))).toBe(fit);
});

it("says nothing about a machine that is not known", () => {
  expect(fitOf(GIB, undefined)).toBe("unknown");
});
