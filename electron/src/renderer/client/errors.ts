// Failures of calls, whichever way they were answered.

/** `kind` is an entry of contracts/errors.json, or one of the page's own: `unreachable`, `unauthorized`, or JSON-RPC's. */
export class CallError extends Error {
  override readonly name = "CallError";

  constructor(
    readonly kind: string,
    message: string,
    /** The whole reply of a method that fails with an envelope; it may hold more facts. */
    readonly reply: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
  }
}

export function asCallError(error: unknown): CallError {
  if (error instanceof CallError) return error;
  const { message, kind } = (typeof error === "object" && error !== null ? error : {}) as Record<string, unknown>;
  return new CallError(
    typeof kind === "string" ? kind : "internal_error",
    typeof message === "string" ? message : String(error),
  );
}

/**
 * Raise when a reply is the failure form of an envelope; one with results of its own is an answer all the same. Only that
 * form has an `error_code`: an installation that failed is reported without.
 */
export function checked<T>(reply: T): T {
  if (typeof reply !== "object" || reply === null || !("success" in reply) || reply.success !== false) return reply;
  const facts = reply as Record<string, unknown>;
  const partial = ["results", "versions"].some((key) => Array.isArray(facts[key]) && facts[key].length > 0);
  if (partial || typeof facts.error !== "string" || typeof facts.error_code !== "string") return reply;
  throw new CallError(facts.error_code, facts.error, facts);
}
