import { expect, it } from "vitest";

import { Primed } from "./primed";
import type { MethodName, Transport } from "./types";

function counted(fails = false) {
  const calls: string[] = [];
  const transport = {
    call: (method: MethodName, params: object) => {
      calls.push(`${method} ${JSON.stringify(params)}`);
      return fails ? Promise.reject(new Error("no")) : Promise.resolve(calls.length);
    },
  } as unknown as Transport;
  return { calls, primed: new Primed(transport) };
}

it("gives an answer that is on its way to the first who asks, and asks anew after that", async () => {
  const { calls, primed } = counted();
  primed.prime("get_library_status", {});
  expect(await primed.call("get_library_status", {})).toBe(1);
  expect(await primed.call("get_library_status", {})).toBe(2);
  expect(await primed.call("get_model", { model_id: "a" })).toBe(3);
  expect(calls).toEqual(["get_library_status {}", "get_library_status {}", 'get_model {"model_id":"a"}']);
});

it("takes other parameters for another question", async () => {
  const { primed } = counted();
  primed.prime("get_model", { model_id: "a" });
  expect(await primed.call("get_model", { model_id: "b" })).toBe(2);
});

it("tells of a failure once, to who asks", async () => {
  const { primed } = counted(true);
  primed.prime("get_library_status", {});
  await new Promise((resolve) => setTimeout(resolve));
  await expect(primed.call("get_library_status", {})).rejects.toThrow("no");
});
