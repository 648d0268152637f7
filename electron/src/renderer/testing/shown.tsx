// A part of the page as a test shows it: below a client whose sidecar is a function of the test.
import { QueryClientProvider } from "@tanstack/react-query";
import { act, type ReactNode } from "react";
import { createRoot } from "react-dom/client";
import { onTestFinished, vi } from "vitest";

import { Client } from "../client/client";
import { ClientContext } from "../client/hooks";
import type { MethodName, StreamHandlers, Transport } from "../client/types";

vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);

export interface Shown {
  place: HTMLElement;
  /** An event of the sidecar. */
  tell: (topic: string, data: Record<string, unknown>) => void;
  /** The same place with another part in it. */
  redraw: (part: ReactNode) => Promise<void>;
  /** Look at something else. */
  leave: () => void;
}

/** Answers of React, of queries and of what both start. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await act(() => new Promise((resolve) => setTimeout(resolve, 1)));
}

export async function shown(part: ReactNode, answer: (method: MethodName, params: object) => unknown): Promise<Shown> {
  let stream: StreamHandlers | undefined;
  const transport = {
    call: (method: MethodName, params: object) => Promise.resolve(answer(method, params)),
    follow: (handlers: StreamHandlers) => {
      stream = handlers;
      return () => undefined;
    },
  } as unknown as Transport;
  const client = new Client(transport);
  const place = document.body.appendChild(document.createElement("div"));
  const root = createRoot(place);
  onTestFinished(() => {
    act(() => root.unmount());
    place.remove();
    client.queries.clear();
  });
  client.start();
  const draw = async (now: ReactNode) => {
    await act(async () => {
      root.render(
        <ClientContext value={client}>
          <QueryClientProvider client={client.queries}>{now}</QueryClientProvider>
        </ClientContext>,
      );
      await Promise.resolve();
    });
    await settle();
  };
  await draw(part);
  return {
    place,
    redraw: draw,
    tell: (topic, data) => act(() => stream?.event({ id: null, topic, data })),
    leave: () => root.unmount(),
  };
}

/** Type into a field as a person does, so that React hears of it. */
export function type(field: HTMLInputElement | HTMLTextAreaElement, text: string): void {
  const value = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field) as object, "value");
  act(() => {
    value?.set?.call(field, text);
    field.dispatchEvent(new Event("input", { bubbles: true }));
  });
}
