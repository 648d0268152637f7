import { describe, expect, it } from "vitest";

import { MessageParser, type Message } from "./sse";

function parse(pieces: readonly string[]): Message[] {
  const messages: Message[] = [];
  const parser = new MessageParser((message) => messages.push(message));
  for (const piece of pieces) parser.feed(piece);
  return messages;
}

const STREAM =
  'retry: 2000\nid: 7\nevent: ready\ndata: {"cursor":7}\n\n: still here\n\nid: 8\nevent: job.state\ndata: {"a":\ndata: 1}\n\n';
const MEANING: Message[] = [
  { id: "7", event: "ready", data: '{"cursor":7}' },
  { id: "8", event: "job.state", data: '{"a":\n1}' },
];

describe("MessageParser", () => {
  it("reads the same wherever the stream is cut", () => {
    for (let cut = 0; cut <= STREAM.length; cut++) {
      expect(parse([STREAM.slice(0, cut), STREAM.slice(cut)]), `cut at ${cut}`).toEqual(MEANING);
    }
    expect(parse(Array.from(STREAM))).toEqual(MEANING);
  });

  it("takes CR LF for a line's end", () => {
    expect(parse([STREAM.replaceAll("\n", "\r\n")])).toEqual(MEANING);
  });

  it("tells nothing of a message that is not complete or has no data", () => {
    expect(parse(["id: 1\nevent: x\ndata: y\n"])).toEqual([]);
    expect(parse(["id: 1\nevent: x\n\n"])).toEqual([]);
  });

  it("keeps the last id for messages without one", () => {
    expect(parse(["id: 3\ndata: a\n\ndata:b\n\n"])).toEqual([
      { id: "3", event: "message", data: "a" },
      { id: "3", event: "message", data: "b" },
    ]);
  });
});
