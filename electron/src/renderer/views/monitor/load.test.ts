import { expect, it, vi } from "vitest";

import { curves, curvesOf, goOnWithCurves, keepCurves, remember } from "./load";

const resources = {
  cpu: { usage: 12 },
  ram: { used: 3 },
  gpu: { usage: 40 },
  gpus: [{ memory: 1 }, { memory: 2 }],
  disk: { used: 100 },
};
const app = (pid: number, cpu_usage: number) => ({
  app_id: "comfyui",
  tag: "v1",
  pid,
  cpu_usage,
  ram_memory: 2,
  gpu_memory: 3,
});

function hear(...apps: ReturnType<typeof app>[]): void {
  remember({ data: { resources, apps } });
}

const last = (data: readonly (number | null)[][]) => data.slice(1).map((line) => line.at(-1));

it("draws each figure of the machine, GPUs together", () => {
  hear();
  expect(last(curves.disk.data())).toEqual([100]);
  expect(last(curves.vram.data())).toEqual([3]);
  expect(last(curves.cpu.data())).toEqual([12]);
});

it("draws each app's own figures, and forgets those of apps that ended", () => {
  hear(app(7, 10), app(8, 20));
  hear(app(7, 30), app(8, 20));
  expect(curvesOf(7).cpu.data()[1]).toEqual([10, 30]);
  expect(last(curvesOf(7).memory.data())).toEqual([2, 3]);
  hear(app(8, 20));
  expect(curvesOf(8).cpu.length).toBe(3);
  expect(curvesOf(7).cpu.length).toBe(0); // another process may get the number
});

it("goes on with its curves in the page that the tab shows next", async () => {
  hear(app(9, 50));
  keepCurves();
  vi.resetModules(); // as a reload does
  const next = await import("./load");
  expect(next.curves.cpu.length).toBe(0);
  next.goOnWithCurves();
  expect(next.curves.cpu.data()).toEqual(curves.cpu.data());
  expect(next.curvesOf(9).memory.data()).toEqual(curvesOf(9).memory.data());
  next.remember({ data: { resources, apps: [] } });
  expect(next.curvesOf(9).cpu.length).toBe(0); // it ended while the page was reloaded
});

it("begins anew where what is kept is damaged", () => {
  for (const damaged of ["", "{", "3", '{"machine":7,"apps":[1,[2]]}']) {
    sessionStorage.setItem("pumas-load", damaged);
    expect(goOnWithCurves).not.toThrow();
  }
});
