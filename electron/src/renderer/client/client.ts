// One client for the page: typed calls, and the events that keep the query cache true. Nothing here polls.
import { QueryClient, notifyManager, type QueryFilters } from "@tanstack/react-query";

import { affectedBy, CHANGED_BY } from "./affected";
import { checked } from "./errors";
import type { ClosedReason, MethodName, Ok, Params, PumasEvent, Transport } from "./types";

/** Events of one moment (an import of a thousand files) lead to one new look. */
const GATHER_MS = 200;
/** Between two answers of which the first took long. */
const LONGEST_PAUSE_MS = 2000;
const CHANNEL = "pumas-changes";

export type Connection = "connecting" | "open" | ClosedReason;
type Listener = (event: PumasEvent) => void;

// An answer is shown in the frame in which it comes; by default the library puts it off with a timer.
notifyManager.setScheduler(queueMicrotask);

export class Client {
  readonly queries = new QueryClient({
    defaultOptions: {
      queries: {
        staleTime: Infinity,
        gcTime: 60_000,
        retry: false,
        refetchOnWindowFocus: false,
        networkMode: "always",
      },
      mutations: { retry: false, networkMode: "always" },
    },
  });
  private readonly listeners = new Map<string, Set<Listener>>();
  private readonly watchers = new Set<() => void>();
  private readonly stale = new Set<MethodName>();
  /** Hashes of queries that are asked again after the answer that is on its way. */
  private readonly askedLater = new Set<string>();
  private readonly tabs = new BroadcastChannel(CHANNEL);
  private gathering: ReturnType<typeof setTimeout> | undefined;
  private state: Connection = "connecting";
  private loadReaders = 0;

  constructor(private readonly transport: Transport) {
    this.tabs.addEventListener("message", ({ data }: MessageEvent<MethodName[]>) => this.invalidate(data));
  }

  /** Follow the events; returns how to stop. */
  start(): () => void {
    return this.transport.follow({
      event: (event) => this.hear(event),
      opened: (gap) => {
        const opened = Date.now();
        const first = this.state === "connecting";
        this.become("open");
        // A stream that comes back brings what was missed, or says that it cannot. What was answered before the first
        // one was open may be older than its first event.
        const isOld = (updated: number) => gap || (first && updated < opened);
        this.outdate({ predicate: ({ state }) => isOld(state.dataUpdatedAt) });
        void this.queries.refetchQueries({ predicate: ({ state }) => state.status === "error", type: "active" });
      },
      closed: (reason) => this.become(reason),
    });
  }

  /** Raises `CallError`. */
  async call<M extends MethodName>(method: M, params: Params<M>, signal?: AbortSignal): Promise<Ok<M>> {
    return checked(await this.transport.call(method, params, signal)) as Ok<M>;
  }

  /** A call that changes something: what it makes out of date is loaded anew here and in the other tabs. */
  async change<M extends MethodName>(method: M, params: Params<M>): Promise<Ok<M>> {
    try {
      return await this.call(method, params);
    } finally {
      const changed = CHANGED_BY[method] ?? [];
      if (changed.length > 0) {
        this.invalidate(changed);
        this.tabs.postMessage(changed);
      }
    }
  }

  /** Where a dropped file lies on the sidecar's disk. Raises `CallError`. */
  place(
    file: File,
    name: string,
    batch: string,
    progress: (bytes: number) => void,
    signal: AbortSignal,
  ): Promise<string> {
    return this.transport.place(file, name, batch, progress, signal);
  }

  /** Listen to a topic, or with `job.` to all topics that begin so. */
  on(topic: string, listener: Listener): () => void {
    const own = this.listeners.get(topic) ?? new Set();
    this.listeners.set(topic, own.add(listener));
    return () => own.delete(listener);
  }

  /** Want the load of the machine until the returned function is called. */
  wantLoad(): () => void {
    if (this.loadReaders++ === 0) this.transport.followLoad(true);
    return () => {
      if (--this.loadReaders === 0) this.transport.followLoad(false);
    };
  }

  get connection(): Connection {
    return this.state;
  }

  readonly watchConnection = (watcher: () => void): (() => void) => {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  };

  invalidate(methods: Iterable<MethodName>): void {
    for (const method of methods) this.stale.add(method);
    this.gathering ??= setTimeout(() => {
      this.gathering = undefined;
      const gone = [...this.stale];
      this.stale.clear();
      for (const method of gone) this.outdate({ queryKey: [method] });
    }, GATHER_MS);
  }

  /**
   * Ask anew what is shown. An answer that is on its way may be older than that, and is asked again after it, not
   * instead of it, and after a pause: while models come by the thousand, a slow one would never be there.
   */
  private outdate(filters: QueryFilters): void {
    for (const { queryHash, queryKey, state, promise } of this.queries.getQueryCache().findAll(filters)) {
      if (this.askedLater.has(queryHash)) continue;
      const filter = { queryKey, exact: true };
      if (state.fetchStatus === "fetching" && promise !== undefined) {
        this.askedLater.add(queryHash);
        const waiting = Date.now();
        const again = () => {
          this.askedLater.delete(queryHash);
          this.outdate(filter);
        };
        const pause = () => setTimeout(again, Math.min(Date.now() - waiting, LONGEST_PAUSE_MS));
        promise.then(pause, pause);
      } else void this.queries.invalidateQueries(filter);
    }
  }

  private hear(event: PumasEvent): void {
    for (const listener of this.listeners.get(event.topic) ?? []) listener(event);
    const group = event.topic.slice(0, event.topic.indexOf(".") + 1);
    for (const listener of this.listeners.get(group) ?? []) listener(event);
    const affected = affectedBy(event.topic, event.data);
    if (affected.length > 0) this.invalidate(affected);
  }

  private become(state: Connection): void {
    if (state === this.state) return;
    this.state = state;
    for (const watcher of this.watchers) watcher();
  }
}
