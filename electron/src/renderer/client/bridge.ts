// The transport inside the desktop shell: the preload's fixed functions. The token stays in the main process.
import type { PumasBridge } from "../../preload/bridge";
import type { Method } from "../../preload/methods";
import { CallError } from "./errors";
import type { MethodName, StreamHandlers, Transport } from "./types";

export class BridgeTransport implements Transport {
  constructor(private readonly bridge: PumasBridge) {}

  async call(method: MethodName, params: object): Promise<unknown> {
    const answer = await this.bridge.call(method as Method, params);
    if (!answer.ok) throw new CallError(answer.error.kind, answer.error.message);
    return answer.result;
  }

  place(file: File): Promise<string> {
    return Promise.resolve(this.bridge.pathOf(file));
  }

  followLoad(on: boolean): void {
    this.bridge.followLoad(on);
  }

  follow(handlers: StreamHandlers): () => void {
    return this.bridge.follow((message) => {
      if (message.type === "event") handlers.event(message);
      else if (message.type === "opened") handlers.opened(message.gap);
      else handlers.closed(message.reason);
    });
  }
}
