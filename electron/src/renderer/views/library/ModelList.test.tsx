import { QueryClientProvider } from "@tanstack/react-query";
import { act } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, expect, it, vi } from "vitest";

import type { FoundModel } from "@contract";
import { Client } from "../../client/client";
import { ClientContext } from "../../client/hooks";
import type { Ok, Params, Transport } from "../../client/types";
import { ModelList } from "./ModelList";
import { rowId } from "./ModelRow";
import { EVERYTHING, PAGE } from "./params";

const ROW = 56;
const HEIGHT = 10 * ROW;
const TOTAL = 5000;

vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);
vi.stubGlobal("ResizeObserver", class { observe = () => undefined; disconnect = () => undefined; }); // prettier-ignore

function model(index: number): FoundModel {
  const model_id = `llm/a/${index}`;
  return {
    model_id,
    id: model_id,
    official_name: `model ${index}`,
    model_type: "llm",
    tags: [],
  } as unknown as FoundModel;
}

function answer({ offset, limit }: Params<"search_models_fts">): Ok<"search_models_fts"> {
  const models = Array.from({ length: limit ?? PAGE }, (_, place) => model((offset ?? 0) + place));
  return { success: true, models, total_count: TOTAL, query_time_ms: 1, query: "", matched: "all" };
}

let deleted = 0;
let asked = 0;
let pending = 0;
/** Told of each answer, once what waited for it has run and may have asked for more. */
const arrivals = new EventTarget();

async function told(params: Params<"search_models_fts">): Promise<Ok<"search_models_fts">> {
  asked++;
  pending++;
  await Promise.resolve();
  setTimeout(() => {
    pending--;
    arrivals.dispatchEvent(new Event("answer"));
  });
  return answer(params);
}

const transport = {
  call: (method: string, params: Params<"search_models_fts">) => {
    if (method === "search_models_fts") return told(params);
    deleted++;
    return Promise.resolve({ success: true, trash_id: null });
  },
  follow: () => () => undefined,
} as unknown as Transport;

let root: Root;
let list: HTMLElement;
let render: (current: string, found?: Ok<"search_models_fts">) => Promise<void>;
const onOpen = vi.fn<(modelId: string) => void>();
beforeEach(async () => {
  vi.spyOn(HTMLElement.prototype, "clientHeight", "get").mockReturnValue(HEIGHT);
  const place = document.body.appendChild(document.createElement("div"));
  root = createRoot(place);
  const client = new Client(transport);
  const first = answer({ query: "", offset: 0, limit: PAGE });
  const draw = (current: string, found = first) =>
    root.render(
      <ClientContext value={client}>
        <QueryClientProvider client={client.queries}>
          <ModelList search={EVERYTHING} found={found} current={current} onOpen={onOpen} />
        </QueryClientProvider>
      </ClientContext>,
    );
  render = (current, found) =>
    act(async () => {
      draw(current, found);
      await Promise.resolve();
    });
  onOpen.mockReset().mockImplementation((current) => draw(current));
  HTMLElement.prototype.scrollTo = function (this: HTMLElement, to?: ScrollToOptions | number) {
    if (typeof to === "object") this.scrollTop = to.top ?? 0;
  };
  await render("");
  list = place.querySelector<HTMLElement>("[role=listbox]") ?? expect.fail("no list");
});
afterEach(() => {
  act(() => root.unmount());
  document.body.replaceChildren();
  vi.restoreAllMocks();
});

async function scrollTo(row: number): Promise<void> {
  await act(async () => {
    list.scrollTop = row * ROW;
    list.dispatchEvent(new Event("scroll"));
    await new Promise((resolve) => setTimeout(resolve));
  });
}

/** Whatever was asked for is there. */
const answered = () =>
  act(async () => {
    await turn();
    while (pending > 0) await new Promise((resolve) => arrivals.addEventListener("answer", resolve, { once: true }));
    await turn(); // the cache tells of an answer after it has come
  });
const turn = () => new Promise((resolve) => setTimeout(resolve));

const rows = () => [...list.querySelectorAll<HTMLElement>("[role=option]")];
const places = () => rows().map((row) => Number(row.getAttribute("aria-posinset")));

it.each([
  ["down", 40, 60],
  ["up", 60, 40],
])("moves no row within the document while scrolling %s", async (_, from, to) => {
  await scrollTo(from);
  const step = Math.sign(to - from);
  for (let at = from; at !== to; at += step) {
    const before = new Set(rows());
    const touched: Node[] = [];
    const changes = new MutationObserver((records) => {
      for (const { addedNodes, removedNodes } of records) touched.push(...addedNodes, ...removedNodes);
    });
    changes.observe(list, { subtree: true, childList: true });
    await scrollTo(at + step);
    changes.disconnect();
    const moved = touched.filter((node) => node instanceof HTMLElement && before.has(node) && node.isConnected);
    expect(moved, `at row ${at}`).toEqual([]);
  }
});

it.each([60, 3777])("shows what is opened by its address, also row %s, once", async (row) => {
  await render(`llm/a/${row}`);
  await answered();
  await scrollTo(list.scrollTop / ROW); // as the browser tells of it
  await answered();
  expect(list.querySelector("[aria-selected=true]")?.id).toBe(rowId(row));
  expect(list.getAttribute("aria-activedescendant")).toBe(rowId(row));
  expect(list.scrollTop).toBe((row + 1) * ROW - HEIGHT);
  await scrollTo(0); // to look at something else
  await render(`llm/a/${row}`);
  expect(list.scrollTop).toBe(0);
});

it("looks once for what is not in the list, not with each answer", async () => {
  asked = 0;
  await render("llm/a/elsewhere");
  await answered();
  expect(asked).toBe(Math.ceil((TOTAL - PAGE) / 1000));
  await render("llm/a/elsewhere", answer({ query: "", offset: 0, limit: PAGE }));
  await answered();
  expect(asked).toBe(Math.ceil((TOTAL - PAGE) / 1000));
});

it("has all that is in view, in its order, wherever it is scrolled to", async () => {
  for (const row of [0, 1, 3, 4, 999, 998, 1003, TOTAL - 10]) {
    await scrollTo(row);
    const shown = places();
    expect(shown).toEqual([...shown].sort((a, b) => a - b));
    for (let place = row + 1; place <= row + 10; place++) expect(shown, `row ${row}`).toContain(place);
    expect(rows()[shown.indexOf(row + 1)]?.textContent, `row ${row}`).toContain(`model ${row}`);
  }
});

it("makes rows ready after the frame, except when something would be missing in it", async () => {
  await scrollTo(100);
  const scrolled = (row: number) => {
    list.scrollTop = row * ROW;
    list.dispatchEvent(new Event("scroll"));
    return places();
  };
  const before = places();
  await act(async () => {
    expect(scrolled(105)).toEqual(before); // they were there already
    expect(scrolled(3000)).toContain(3001);
    await Promise.resolve();
  });
  await scrollTo(105);
  expect(places()).not.toEqual(before);
});

it("shows the row of what is opened by its address, once", async () => {
  await render("llm/a/40");
  expect(list.scrollTop).toBe(41 * ROW - HEIGHT);
  expect(list.getAttribute("aria-activedescendant")).toBe(rowId(40));
  await scrollTo(0);
  await render("llm/a/40");
  expect(list.scrollTop).toBe(0);
});

it("leaves the list where it is when a row of it is opened", async () => {
  await scrollTo(20);
  const row = rows().find((one) => one.getAttribute("aria-posinset") === "20"); // half above the edge
  act(() => row?.click());
  expect(onOpen).toHaveBeenCalledWith("llm/a/19");
  expect(list.querySelector("[aria-selected=true]")?.textContent).toContain("model 19");
  expect(list.scrollTop).toBe(20 * ROW);
});

it("closes the details of what is deleted, not those of another model", async () => {
  const press = (key: string) =>
    act(async () => {
      list.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
      await new Promise((resolve) => setTimeout(resolve));
    });
  await render("llm/a/3");
  await press("Delete");
  await expect.poll(() => onOpen.mock.calls).toEqual([[""]]);
  onOpen.mockClear();
  await render("llm/other/1");
  await press("Delete");
  await expect.poll(() => deleted).toBe(2);
  expect(onOpen).not.toHaveBeenCalled();
});
