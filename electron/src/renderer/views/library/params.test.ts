import { expect, it } from "vitest";

import {
  EVERYTHING,
  NO_FILTERS,
  PAGE,
  facetParams,
  furtherPages,
  hasFilters,
  listParams,
  searchParams,
  withFilter,
  type Search,
} from "./params";

it.each([
  [0, 20, []],
  [0, PAGE - 1, []],
  [PAGE - 5, PAGE + 5, [1]],
  [PAGE * 500 - 1, PAGE * 500, [499, 500]],
  [0, -1, []],
])("rows %d to %d need further pages %j", (first, last, pages) => {
  expect(furtherPages(first, last)).toEqual(pages);
});

it("turns filters on and off without touching the others", () => {
  const one = withFilter(NO_FILTERS, "quants", "Q4_K_M", true);
  const two = withFilter(one, "types", "llm", true);
  expect(two).toEqual({ ...NO_FILTERS, quants: ["Q4_K_M"], types: ["llm"] });
  expect(withFilter(two, "quants", "Q4_K_M", true)).toEqual(two);
  expect(withFilter(withFilter(two, "quants", "Q4_K_M", false), "types", "llm", false)).toEqual(NO_FILTERS);
  expect([hasFilters(NO_FILTERS), hasFilters(one)]).toEqual([false, true]);
});

it("asks for a page of what is searched for", () => {
  const search: Search = { query: "llama", filters: withFilter(NO_FILTERS, "sizes", "4", true), sort: "largest" };
  const asked = { query: "llama", sizes: ["4"], sort: "largest" };
  expect(searchParams(search, 3)).toMatchObject({ ...asked, offset: 3 * PAGE, limit: PAGE });
  expect(listParams(search)).toMatchObject(asked);
  expect(facetParams(search)).not.toHaveProperty("sort");
  expect(searchParams(EVERYTHING, 0)).toMatchObject({ query: "", offset: 0, tags: [] });
});
