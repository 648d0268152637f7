import { useEffect, useRef } from "react";
import UPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import { USUAL_FONT, rootFont } from "../lib/font";
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
  /** In pixels of the usual font; it grows with the font. */
  height?: number;
  format: (value: number) => string;
}

const SPAN_S = 300;
/** How far an hour reaches to the left of its place, in pixels of the usual font. */
const CLOCK_REACH = 18;

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
    let scale = 0;
    const size = () => ({ width: Math.max(80, element.clientWidth), height: height * scale });
    const create = () => {
      scale = rootFont() / USUAL_FONT;
      const font = `${12 * scale}px sans-serif`;
      const color = (name: string) => colorOf(element, name);
      plot.current?.destroy();
      plot.current = new UPlot(
        {
          ...size(),
          legend: { show: false },
          cursor: { show: false },
          scales: {
            x: { range: () => span(history) },
            y: { range: (_, __, most) => [0, max ?? Math.max(least, (most || 0) * 1.15)] },
          },
          axes: [
            {
              stroke: color("--soft"),
              font,
              grid: { show: false },
              ticks: { show: false },
              size: 24 * scale,
              space: 50 * scale,
              incrs: [60, 120, 300], // the clock has no seconds
              values: (plot, splits) =>
                splits.map((seconds) => {
                  const roomy = plot.valToPos(seconds, "x") > CLOCK_REACH * scale;
                  return roomy ? clock.format(seconds * 1000) : ""; // not below the scale's own words
                }),
            },
            {
              stroke: color("--soft"),
              font,
              grid: { stroke: color("--line"), width: scale },
              ticks: { show: false },
              size: 76 * scale,
              splits: (_, __, low, high) => [low, (low + high) / 2, high],
              values: (_, splits) => splits.map((value) => latest.current(value)),
            },
          ],
          series: [
            {},
            ...key.split(",").map((name) => ({ stroke: color(name), width: 2 * scale, points: { show: false } })),
          ],
        },
        history.data(),
        element,
      );
    };
    create();
    const sizes = new ResizeObserver(() => {
      if (scale === rootFont() / USUAL_FONT) plot.current?.setSize(size());
      else create();
    });
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
  return (
    <div
      ref={place}
      className={css.curve}
      role="img"
      aria-label={label}
      style={{ height: `${height / USUAL_FONT}rem` }}
    />
  );
}
