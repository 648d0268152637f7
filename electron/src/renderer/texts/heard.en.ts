import type { Sentence } from "./heard";

// The sidecar's sentences are English already; what is left out here names methods and parameters, which are advice for
// a script. The page has buttons for them, and its own advice (`error.*` in en.ts).
export const HEARD_EN: readonly Sentence[] = [
  [/^Too many calls of \S+; try again in (\d+) s\.$/, "Too many calls; try again in $1 s."],
  [/^(.+); [a-z]+(?:_[a-z]+)+ [^;]+\.$/s, "$1."],
  [/^(.+); pass [a-z]+(?:_[a-z]+)* to [^;]+\.$/s, "$1."],
  [/^(.+) \([a-z]+(?:_[a-z]+)+\)\.$/s, "$1."],
];
