// The names of all channels between the page and the main process; there are no others.
import { METHODS, type Method } from "./methods";

/** Each method of the contract has a channel of its own: no channel takes a method's name. */
export const rpcChannel = (method: Method): string => `rpc:${method}`;

export const isMethod = (name: unknown): name is Method => (METHODS as readonly unknown[]).includes(name);

/** Asked by the page, answered by the main process. */
export const ASK = {
  sidecar: "shell:sidecar",
  restartSidecar: "shell:restart-sidecar",
  chooseFiles: "shell:choose-files",
  chooseFolder: "shell:choose-folder",
  settings: "shell:settings",
  changeSettings: "shell:change-settings",
  follow: "shell:follow",
  followLoad: "shell:follow-load",
} as const;

/** Told by the main process. */
export const TELL = {
  stream: "tell:stream",
  sidecar: "tell:sidecar",
} as const;
