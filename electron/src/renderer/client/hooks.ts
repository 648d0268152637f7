// The client as React sees it.
import { useMutation, useQuery, type UseQueryOptions } from "@tanstack/react-query";
import { createContext, use, useEffect, useSyncExternalStore } from "react";

import type { Client, Connection } from "./client";
import type { CallError } from "./errors";
import type { MethodName, Ok, Params, PumasEvent } from "./types";

export const ClientContext = createContext<Client | null>(null);

export function useClient(): Client {
  const client = use(ClientContext);
  if (client === null) throw new Error("no ClientContext above");
  return client;
}

type Options<T> = Omit<UseQueryOptions<T, CallError>, "queryKey" | "queryFn">;

/** The answer of a method, kept true by events. */
export function useCall<M extends MethodName>(method: M, params: Params<M>, options: Options<Ok<M>> = {}) {
  const client = useClient();
  return useQuery<Ok<M>, CallError>({ ...callOptions(client, method, params), ...options });
}

export function callOptions<M extends MethodName>(client: Client, method: M, params: Params<M>) {
  return {
    queryKey: [method, params] as const,
    queryFn: ({ signal }: { signal: AbortSignal }) => client.call(method, params, signal),
  };
}

/** A method that changes something, to be called by a person's action. */
export function useChange<M extends MethodName>(method: M) {
  const client = useClient();
  return useMutation<Ok<M>, CallError, Params<M>>({ mutationFn: (params) => client.change(method, params) });
}

/** Listen to a topic while the component is shown. `listener` should be stable. */
export function useEvent(topic: string, listener: (event: PumasEvent) => void): void {
  const client = useClient();
  useEffect(() => client.on(topic, listener), [client, topic, listener]);
}

export function useConnection(): Connection {
  const client = useClient();
  return useSyncExternalStore(client.watchConnection, () => client.connection);
}
