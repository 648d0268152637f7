// Calls that are made while the page's code is still on its way: their answers wait for the first who asks for them.
import type { MethodName, Params, StreamHandlers, Transport } from "./types";

export class Primed implements Transport {
  private readonly waiting = new Map<string, Promise<unknown>>();

  constructor(private readonly transport: Transport) {}

  prime<M extends MethodName>(method: M, params: Params<M>): void {
    const answer = this.transport.call(method, params);
    answer.catch(() => undefined); // whoever asks hears of it
    this.waiting.set(keyOf(method, params), answer);
  }

  call(method: MethodName, params: object, signal?: AbortSignal): Promise<unknown> {
    const key = keyOf(method, params);
    const known = this.waiting.get(key);
    this.waiting.delete(key);
    return known ?? this.transport.call(method, params, signal);
  }

  place(
    file: File,
    name: string,
    batch: string,
    progress: (bytes: number) => void,
    signal: AbortSignal,
  ): Promise<string> {
    return this.transport.place(file, name, batch, progress, signal);
  }

  followLoad(on: boolean): void {
    this.transport.followLoad(on);
  }

  follow(handlers: StreamHandlers): () => void {
    return this.transport.follow(handlers);
  }
}

function keyOf(method: MethodName, params: object): string {
  return `${method} ${JSON.stringify(params)}`;
}
