// Answers the page: one handler for each channel of preload/channels.ts, and the sender checked before any of them.
import type { BrowserWindow, Dialog, IpcMain, IpcMainInvokeEvent } from "electron";

import type { Answer, ShellSettings } from "../preload/bridge";
import { ASK, rpcChannel } from "../preload/channels";
import { METHODS } from "../preload/methods";
import { CallFailed } from "./connection";
import { fromOurPage } from "./security";
import { choices } from "./settings";
import type { Sidecar } from "./sidecar";
import type { Stream } from "./stream";
import type { Texts } from "./texts";

export interface Parts {
  readonly sidecar: Sidecar;
  readonly stream: Stream;
  readonly dialog: Dialog;
  readonly texts: Texts;
  readonly window: () => BrowserWindow | null;
  readonly settings: () => ShellSettings;
  readonly change: (change: Partial<ShellSettings>) => Promise<ShellSettings>;
  /** From now on the page hears the event stream. */
  readonly follow: () => void;
}

type Handler = (message: unknown) => unknown;

export function answerPage(ipc: IpcMain, parts: Parts): void {
  const handlers: Record<string, Handler> = {
    [ASK.sidecar]: () => parts.sidecar.state,
    [ASK.restartSidecar]: () => parts.sidecar.start(),
    [ASK.chooseFiles]: () => choose(parts, parts.texts.importFiles, ["openFile", "multiSelections"]),
    [ASK.chooseFolder]: () => choose(parts, parts.texts.importFolder, ["openDirectory"]),
    [ASK.settings]: () => parts.settings(),
    [ASK.changeSettings]: (message) => parts.change(choices(message)),
    [ASK.follow]: () => parts.follow(),
    [ASK.followLoad]: (message) => parts.stream.followLoad(message === true),
  };
  for (const method of METHODS) handlers[rpcChannel(method)] = (params) => call(parts.sidecar, method, params);
  for (const [channel, handler] of Object.entries(handlers)) {
    ipc.handle(channel, (event: IpcMainInvokeEvent, message: unknown) => {
      if (!fromOurPage(event)) throw new Error("Refused: not from the page.");
      return handler(message);
    });
  }
}

async function call(sidecar: Sidecar, method: string, params: unknown): Promise<Answer> {
  const { connection } = sidecar;
  if (connection === null) {
    return { ok: false, error: { kind: "unreachable", message: "The sidecar does not run.", code: null } };
  }
  try {
    const given = typeof params === "object" && params !== null ? params : {};
    return { ok: true, result: await connection.call(method, given) };
  } catch (error) {
    if (error instanceof CallFailed) return { ok: false, error: error.failure };
    throw error;
  }
}

async function choose(
  { dialog, window, texts }: Parts,
  title: string,
  properties: ("openFile" | "multiSelections" | "openDirectory")[],
): Promise<string[]> {
  const over = window();
  if (over === null) return [];
  const filters = [
    { name: texts.models, extensions: ["gguf", "safetensors", "onnx", "bin", "pt", "pth", "ckpt"] },
    { name: texts.allFiles, extensions: ["*"] },
  ];
  const folder = properties.includes("openDirectory");
  const { canceled, filePaths } = await dialog.showOpenDialog(over, {
    title,
    properties,
    ...(folder ? {} : { filters }),
  });
  return canceled ? [] : filePaths;
}
