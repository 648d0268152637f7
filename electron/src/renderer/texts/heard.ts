// What the sidecar says, in the page's language. Its sentences are English (backend/pumas/errors.py and the services);
// a language that has no form for one shows it as it came.

/** A sentence, and its form: `$1` and further stand for what it names. */
export type Sentence = readonly [RegExp, string];

export function translated(text: string, sentences: readonly Sentence[]): string {
  for (const [pattern, form] of sentences) if (pattern.test(text)) return text.replace(pattern, form);
  // Many begin with what they are about: `roots.pem: No such file or directory`.
  const colon = text.indexOf(": ");
  if (colon < 0) return text;
  return text.slice(0, colon + 2) + translated(text.slice(colon + 2), sentences);
}
