import { expect, it } from "vitest";

import { asCallError, CallError, checked } from "./errors";

it.each([
  [{ success: true, models: [] }],
  [{ success: false, results: [{ path: "/a", success: false }], imported: 0 }],
  [{ success: false, versions: [{ tag_name: "v1" }], error: "old", error_code: "network_error" }],
  [{ tag: "v1", stage: "setup", success: false, error: "It ended." }],
  [null],
  [true],
  ["v1"],
  [[1]],
])("lets an answer through: %j", (reply) => {
  expect(checked<unknown>(reply)).toBe(reply);
});

it.each([
  [{ success: false, error: "No.", error_code: "disk_full" }, "disk_full"],
  [{ success: false, error: "No.", error_code: "disk_full", results: [] }, "disk_full"],
  [{ success: false, error: "No.", error_code: "not_a_model", results: [], path: "/a" }, "not_a_model"],
])("raises the failure form: %j", (reply, kind) => {
  let raised: unknown;
  try {
    checked(reply);
  } catch (error) {
    raised = error;
  }
  expect(raised).toBeInstanceOf(CallError);
  expect(raised).toMatchObject({ kind, message: "No.", reply });
});

it.each([
  [new CallError("busy", "Later."), "busy", "Later."],
  [new Error("odd"), "internal_error", "odd"],
  ["text", "internal_error", "text"],
  [null, "internal_error", "null"],
  [{ kind: "unreachable", message: "gone" }, "unreachable", "gone"],
])("makes one kind of error of anything: %s", (thrown, kind, message) => {
  expect(asCallError(thrown)).toMatchObject({ kind, message });
});
