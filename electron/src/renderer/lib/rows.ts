// Which rows of a long list are in view, where all have one height: arithmetic instead of a table of a hundred thousand
// places that would be made anew with each letter of a search.
import { useEffect, useRef, useState, type RefObject } from "react";
import { flushSync } from "react-dom";

import { USUAL_FONT, rootFont } from "./font";

export interface Range {
  first: number;
  /** The one after the last. */
  end: number;
}

export interface View {
  /** How far it is scrolled, and its height, in pixels. */
  top: number;
  height: number;
}

/** More than are in view on each side, so that a quick scroll shows no gap; fewer where each letter draws all anew. */
const MORE = 8;
const MORE_AT_START = 3;
/** Rows come and go by so many at once, so that most frames of a scroll have nothing to lay out or paint. */
const STEP = 4;

export function rangeOf({ top, height }: View, rowHeight: number, total: number): Range {
  const inView = Math.ceil(height / rowHeight);
  const before = Math.floor(top / rowHeight / STEP) * STEP;
  const [from, to] = top > 0 ? [before - MORE, before + STEP + inView + MORE] : [0, inView + MORE_AT_START];
  const first = Math.min(Math.max(0, from), total);
  return { first, end: Math.min(Math.max(first, to), total) };
}

/** Nothing in view is missing. */
export function covers({ first, end }: Range, { top, height }: View, rowHeight: number, total: number): boolean {
  return first * rowHeight <= Math.max(0, top) && Math.min(top + height, total * rowHeight) <= end * rowHeight;
}

/** Where to scroll so that a row is wholly in view; where it is already when it is. */
export function revealing(row: number, { top, height }: View, rowHeight: number): number {
  const start = row * rowHeight;
  return Math.min(start, Math.max(top, start + rowHeight - height));
}

export interface Rows extends Range {
  /** How many rows are in view at most, at least one. */
  page: number;
  reveal: (row: number) => void;
}

/** `rem` is a row's height as the style sheet has it, so that rows grow with the font. */
export function useRows(scroller: RefObject<HTMLElement | null>, total: number, rem: number): Rows {
  const [rowHeight, setRowHeight] = useState(rem * USUAL_FONT);
  const [view, setView] = useState<View>({ top: 0, height: window.innerHeight });
  const range = rangeOf(view, rowHeight, total);
  const { first, end } = range;
  const shown = useRef({ range, rowHeight, total });
  useEffect(() => {
    shown.current = { range: { first, end }, rowHeight, total };
  }, [first, end, rowHeight, total]);

  useEffect(() => {
    const element = scroller.current;
    if (element === null) return;
    const look = () => ({ top: element.scrollTop, height: element.clientHeight });
    const scrolled = () => {
      const { range: known, rowHeight: height, total: count } = shown.current;
      const now = look();
      const next = rangeOf(now, height, count);
      if (next.first === known.first && next.end === known.end) return;
      // What only comes nearer is made ready after the frame, in the time that is left before the next one. A leap shows
      // its rows in the frame that is scrolled.
      if (covers(known, now, height, count)) setView(now);
      else flushSync(() => setView(now));
    };
    const sizes = new ResizeObserver(() => {
      setRowHeight(rem * rootFont());
      setView((now) => (now.top === element.scrollTop && now.height === element.clientHeight ? now : look()));
    });
    sizes.observe(element);
    element.addEventListener("scroll", scrolled, { passive: true });
    return () => {
      sizes.disconnect();
      element.removeEventListener("scroll", scrolled);
    };
  }, [scroller, rem]);

  const page = Math.max(1, Math.floor(view.height / rowHeight));
  const reveal = (row: number) => {
    const element = scroller.current;
    element?.scrollTo({ top: revealing(row, { top: element.scrollTop, height: element.clientHeight }, rowHeight) });
  };
  return { first, end, page, reveal };
}
