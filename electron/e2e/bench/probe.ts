// Runs inside the page, before any of its own code: when is something on the screen?
import type { Page } from "@playwright/test";

/** What the page says on its console then: whoever looked at the document meanwhile would slow it down. */
export const FIRST_ROW = "the first row is painted";

declare global {
  interface Window {
    probe: {
      /** Time from the navigation's start to the first model on the screen; null as long as there is none. */
      firstRow: number | null;
      /** Watch the next key, with which this query is complete. */
      arm: (query: string) => void;
      /** The time from that key to the last painted change of the results. */
      took: () => Promise<number>;
      /** Lengths of frames in ms from now on, until `frames()` is called. */
      record: () => void;
      frames: () => number[];
    };
  }
}

export async function probe(page: Page): Promise<void> {
  await page.addInitScript((FIRST_ROW) => {
    const QUIET_MS = 120;
    const NOTHING_MORE_MS = 600;
    const answered = new Map<string, number>();
    const fetchAsBefore = window.fetch.bind(window);
    window.fetch = async (input, init) => {
      const reply = await fetchAsBefore(input, init);
      if (typeof init?.body === "string" && init.body.includes('"search_models_fts"')) {
        const { params } = JSON.parse(init.body) as { params: { query: string } };
        answered.set(params.query, performance.now());
      }
      return reply;
    };
    /** Calls back right after the frame that shows what the document is now. */
    const painted = (then: (at: number) => void) =>
      requestAnimationFrame(() => {
        const channel = new MessageChannel();
        channel.port1.onmessage = () => then(performance.now());
        channel.port2.postMessage(null);
      });

    let took: Promise<number> = Promise.reject(new Error("no key is watched"));
    took.catch(() => undefined);
    let frames: number[] = [];
    let recording = 0;
    const frame = (turn: number, before: number) => {
      requestAnimationFrame((now) => {
        if (turn !== recording) return;
        frames.push(now - before);
        frame(turn, now);
      });
    };

    window.probe = {
      firstRow: null,
      took: () => took,
      arm: (query) => {
        took = new Promise((resolve, reject) => {
          let pressed = 0;
          let last = 0;
          const begun = performance.now();
          const observer = new MutationObserver(() => painted((at) => (last = at)));
          const watch = setInterval(() => {
            // Marks follow the letters at once, rows the answer; an answer with the same rows changes nothing more.
            const answer = answered.get(query);
            if (performance.now() > begun + 10_000) {
              clearInterval(watch);
              reject(
                new Error(`no answer to ${query}: pressed ${pressed}, asked for ${[...answered.keys()].join(", ")}`),
              );
            }
            if (pressed === 0 || answer === undefined) return;
            const patience = last > answer ? QUIET_MS : NOTHING_MORE_MS;
            if (performance.now() - Math.max(pressed, answer, last) < patience) return;
            clearInterval(watch);
            observer.disconnect();
            resolve(last - pressed);
          }, 10);
          const press = (event: KeyboardEvent) => {
            pressed = event.timeStamp;
            const results = document.querySelector("main section") ?? document.body;
            observer.observe(results, { subtree: true, childList: true, characterData: true });
          };
          addEventListener("keydown", press, { capture: true, once: true });
        });
      },
      record: () => {
        frames = [];
        frame(++recording, performance.now());
      },
      frames: () => {
        recording++;
        return frames;
      },
    };
    const first = new MutationObserver(() => {
      if ((document.querySelector("[role=option]")?.textContent ?? "") === "") return;
      first.disconnect();
      painted((at) => {
        window.probe.firstRow = at;
        console.info(FIRST_ROW);
      });
    });
    first.observe(document, { subtree: true, childList: true, characterData: true });
  }, FIRST_ROW);
}
