// Server-sent events out of a byte stream (https://html.spec.whatwg.org/multipage/server-sent-events.html), as far as
// the sidecar uses them. `EventSource` cannot send the token, so the page reads the stream by itself.

export interface Message {
  id: string | null;
  event: string;
  data: string;
}

/** Feed pieces of text as they come; complete messages go to `emit`. */
export class MessageParser {
  private rest = "";
  private id: string | null = null;
  private event = "";
  private data: string[] = [];

  constructor(private readonly emit: (message: Message) => void) {}

  feed(text: string): void {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop() ?? "";
    for (const line of lines) this.line(line.endsWith("\r") ? line.slice(0, -1) : line);
  }

  private line(line: string): void {
    if (line === "") {
      if (this.data.length > 0) this.emit({ id: this.id, event: this.event || "message", data: this.data.join("\n") });
      this.event = "";
      this.data = [];
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment keeps the connection alive
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.data.push(value);
    else if (field === "event") this.event = value;
    else if (field === "id") this.id = value;
  }
}
