// What the tray, the task bar and notifications need to know of the work under way, gathered from the event stream.
import { EventEmitter } from "node:events";

import type { StreamMessage } from "../preload/bridge";
import type { Connection } from "./connection";

export interface Finished {
  kind: string;
  title: string;
  ok: boolean;
  error: string | null;
}

/** Downloads under way; `progress` 0…1 over all their bytes, null while no size is known. */
export interface Downloads {
  count: number;
  progress: number | null;
}

interface Events {
  downloads: [Downloads];
  finished: [Finished];
}

const TOLD = new Set(["download", "install"]);
const UNDER_WAY = new Set(["running", "queued"]);

interface Bytes {
  done: number;
  total: number;
}

export class Jobs extends EventEmitter<Events> {
  private readonly active = new Map<string, Bytes>();

  /** What was under way before we listened. */
  async load(connection: Connection): Promise<void> {
    const reply = (await connection.call("list_jobs", { kind: "download", states: ["queued", "running"] })) as {
      jobs?: { job_id: string; done: number; total: number }[];
    };
    this.active.clear();
    for (const { job_id, done, total } of reply.jobs ?? []) this.active.set(job_id, { done, total });
    this.tell();
  }

  hear(message: StreamMessage): void {
    if (message.type !== "event") return;
    const { topic, data } = message;
    if (topic === "job.state") this.changed(data as unknown as JobState);
    if (topic === "job.progress") this.progressed(data as unknown as JobProgress);
  }

  private changed({ job_id, kind, title, state, error }: JobState): void {
    if (kind === "download") {
      if (UNDER_WAY.has(state)) this.active.set(job_id, this.active.get(job_id) ?? { done: 0, total: 0 });
      else this.active.delete(job_id);
      this.tell();
    }
    if (TOLD.has(kind) && (state === "completed" || state === "failed")) {
      this.emit("finished", { kind, title, ok: state === "completed", error });
    }
  }

  private progressed({ job_id, done, total }: JobProgress): void {
    if (!this.active.has(job_id)) return;
    this.active.set(job_id, { done, total });
    this.tell();
  }

  private tell(): void {
    const all = [...this.active.values()];
    const sum = (pick: (bytes: Bytes) => number) => all.reduce((total, bytes) => total + pick(bytes), 0);
    const total = sum((bytes) => bytes.total);
    this.emit("downloads", { count: all.length, progress: total > 0 ? sum((bytes) => bytes.done) / total : null });
  }
}

interface JobState {
  job_id: string;
  kind: string;
  title: string;
  state: string;
  error: string | null;
}

interface JobProgress {
  job_id: string;
  done: number;
  total: number;
}
