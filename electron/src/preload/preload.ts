// Runs in the page's process, sandboxed and in a world of its own: gives the page the few things of `PumasBridge`.
// Neither a free channel nor a method name that the contract lacks gets through, and no event object gets out.
import { contextBridge, ipcRenderer, webUtils } from "electron";

import type { Answer, PumasBridge, ShellSettings, SidecarState } from "./bridge";
import { ASK, TELL, isMethod, rpcChannel } from "./channels";

function listen(channel: string, listener: (message: never) => void): () => void {
  const heard = (_event: unknown, message: unknown) => listener(message as never);
  ipcRenderer.on(channel, heard);
  return () => void ipcRenderer.removeListener(channel, heard);
}

const bridge: PumasBridge = {
  call: (method, params) =>
    isMethod(method)
      ? (ipcRenderer.invoke(rpcChannel(method), params) as Promise<Answer>)
      : Promise.reject(new Error("There is no such method.")),
  follow: (listener) => {
    const end = listen(TELL.stream, listener);
    void ipcRenderer.invoke(ASK.follow);
    return end;
  },
  followLoad: (on) => void ipcRenderer.invoke(ASK.followLoad, on),
  sidecar: () => ipcRenderer.invoke(ASK.sidecar) as Promise<SidecarState>,
  onSidecar: (listener) => listen(TELL.sidecar, listener),
  restartSidecar: () => ipcRenderer.invoke(ASK.restartSidecar) as Promise<void>,
  chooseFiles: () => ipcRenderer.invoke(ASK.chooseFiles) as Promise<string[]>,
  chooseFolder: () => ipcRenderer.invoke(ASK.chooseFolder) as Promise<string[]>,
  pathOf: (file) => webUtils.getPathForFile(file),
  settings: () => ipcRenderer.invoke(ASK.settings) as Promise<ShellSettings>,
  changeSettings: (change) => ipcRenderer.invoke(ASK.changeSettings, change) as Promise<ShellSettings>,
};

contextBridge.exposeInMainWorld("pumas", bridge);
