// The size of the page's letters, which grows with the screen (theme.css). What is measured in pixels grows with it.

/** What the font is before the document says so: asking takes time that the first view does not have. */
export const USUAL_FONT = 14;

export function rootFont(): number {
  return parseFloat(getComputedStyle(document.documentElement).fontSize) || USUAL_FONT;
}
