import { useEffect, useRef } from "react";
import UPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import type { History } from "../lib/history";
import css from "./Curve.module.css";

interface Props {
  label: string;
  history: History;
  /** Grows with each new point. */
  version: number;
  /** Custom properties of the style sheet, one for each line. */
  colors: readonly string[];
  /** Upper end of the scale; left out: as the values need it. */
  max?: number;
  /** What the scale shows at least. */
  least?: number;
  height?: number;
  format: (value: number) => string;
}

const SPAN_S = 300;

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

/** What a custom property of the style sheet is in the theme of now: the canvas knows no `var()` and no `light-dark()`. */
function colorOf(element: HTMLElement, name: string): string {
  element.style.color = `var(${name})`;
  const { color } = getComputedStyle(element);
  element.style.color = "";
  return color;
}

/** The last minutes before the newest point. */
function span(history: History): [number, number] {
  const newest = history.newest ?? Date.now() / 1000;
  return [newest - SPAN_S, newest];
}

/** A live curve. uPlot draws; the figures beside it say the same to those who cannot see it. */
export default function Curve({ label, history, version, colors, max, least = 1, height = 120, format }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<UPlot | null>(null);
  const latest = useRef(format);
  useEffect(() => {
    latest.current = format;
  });
  const key = colors.join();
  useEffect(() => {
    const element = place.current;
    if (element === null) return;
    const create = () => {
      const color = (name: string) => colorOf(element, name);
      plot.current?.destroy();
      plot.current = new UPlot(
        {
          width: Math.max(80, element.clientWidth),
          height,
          legend: { show: false },
          cursor: { show: false },
          scales: {
            x: { range: () => span(history) },
            y: { range: (_, __, most) => [0, max ?? Math.max(least, (most || 0) * 1.15)] },
          },
          axes: [
            {
              stroke: color("--soft"),
              grid: { show: false },
              ticks: { show: false },
              size: 24,
              values: (_, splits) => splits.map((seconds) => clock.format(seconds * 1000)),
            },
            {
              stroke: color("--soft"),
              grid: { stroke: color("--line"), width: 1 },
              ticks: { show: false },
              size: 76,
              splits: (_, __, low, high) => [low, (low + high) / 2, high],
              values: (_, splits) => splits.map((value) => latest.current(value)),
            },
          ],
          series: [{}, ...key.split(",").map((name) => ({ stroke: color(name), width: 2, points: { show: false } }))],
        },
        history.data(),
        element,
      );
    };
    create();
    const sizes = new ResizeObserver(() => plot.current?.setSize({ width: Math.max(80, element.clientWidth), height }));
    sizes.observe(element);
    const themes = new MutationObserver(create);
    themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", create);
    return () => {
      sizes.disconnect();
      themes.disconnect();
      system.removeEventListener("change", create);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [history, key, max, least, height]);
  useEffect(() => {
    plot.current?.setData(history.data());
  }, [history, version]);
  return <div ref={place} className={css.curve} role="img" aria-label={label} style={{ height }} />;
}
