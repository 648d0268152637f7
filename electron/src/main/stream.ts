// The event stream of whichever sidecar runs at the time: read again after each end, from the cursor on.
import type { StreamMessage } from "../preload/bridge";
import { LOAD_TOPIC, TOPICS } from "../renderer/client/topics";
import type { Connection, Emit } from "./connection";
import type { Sidecar } from "./sidecar";

const RETRY_MS = 500;

export class Stream {
  private cursor: string | null = null;
  private withLoad = false;
  private opened = false;
  private reading: AbortController | null = null;
  private readonly listeners = new Set<(message: StreamMessage) => void>();

  constructor(private readonly sidecar: Sidecar) {
    sidecar.on("connected", (connection) => void this.readAll(connection));
  }

  listen(listener: (message: StreamMessage) => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  /** Whether the sidecar has opened the stream; who comes later has missed that. */
  get open(): boolean {
    return this.opened;
  }

  followLoad(on: boolean): void {
    if (this.withLoad === on) return;
    this.withLoad = on;
    this.reading?.abort();
  }

  /** For as long as this very connection is the sidecar's. */
  private async readAll(connection: Connection): Promise<void> {
    while (this.sidecar.connection === connection) {
      const again = await this.readOnce(connection);
      if (!again && this.sidecar.connection === connection)
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
    this.tell({ type: "closed", reason: "unreachable" });
  }

  /** True when it ended because it is wanted anew. */
  private async readOnce(connection: Connection): Promise<boolean> {
    const reading = new AbortController();
    let silence: NodeJS.Timeout | undefined;
    const heard = () => {
      clearTimeout(silence);
      // It lives and the stream is dead, or it is ended: either way this reading is over.
      silence = setTimeout(() => void this.sidecar.suspect().then(() => reading.abort()), this.sidecar.silenceMs);
    };
    this.reading = reading;
    heard();
    const topics = this.withLoad ? [...TOPICS, LOAD_TOPIC] : TOPICS;
    const emit: Emit = (message, cursor) => {
      this.cursor = cursor ?? this.cursor;
      this.opened = true;
      this.tell(message);
    };
    await connection.follow(topics, this.cursor, emit, heard, reading.signal);
    clearTimeout(silence);
    this.reading = null;
    this.opened = false;
    return reading.signal.aborted;
  }

  private tell(message: StreamMessage): void {
    for (const listener of this.listeners) listener(message);
  }
}
