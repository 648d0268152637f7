// What is searched for, as values. Without React, so that the first search can start before the page is there.
import type { Params } from "../../client/types";

export const FACETS = ["types", "families", "formats", "quants", "sizes", "apps", "tags"] as const;
export type Facet = (typeof FACETS)[number];
export type Filters = Readonly<Record<Facet, readonly string[]>>;

export const SORTS = ["relevance", "newest", "name", "largest", "smallest"] as const;
export type Sort = NonNullable<Params<"search_models_fts">["sort"]> & (typeof SORTS)[number];

export interface Search {
  query: string;
  filters: Filters;
  sort: Sort;
}

export const NO_FILTERS: Filters = { types: [], families: [], formats: [], quants: [], sizes: [], apps: [], tags: [] };
export const EVERYTHING: Search = { query: "", filters: NO_FILTERS, sort: "relevance" };
export const PAGE = 50;

export function withFilter(filters: Filters, facet: Facet, value: string, on: boolean): Filters {
  const others = filters[facet].filter((one) => one !== value);
  return { ...filters, [facet]: on ? [...others, value] : others };
}

export function hasFilters(filters: Filters): boolean {
  return FACETS.some((facet) => filters[facet].length > 0);
}

export function searchParams(search: Search, page: number): Params<"search_models_fts"> {
  return { ...listParams(search), offset: page * PAGE, limit: PAGE };
}

/** All of the search but where it begins and ends. */
export function listParams(search: Search) {
  return { ...facetParams(search), sort: search.sort };
}

/** The same search, to count what it finds: in whatever order. */
export function facetParams({ query, filters }: Search) {
  return {
    query,
    model_types: [...filters.types],
    families: [...filters.families],
    formats: [...filters.formats],
    quants: [...filters.quants],
    sizes: [...filters.sizes],
    apps: [...filters.apps],
    tags: [...filters.tags],
  };
}

/** The pages that hold the rows `first` to `last`, without the first page, which is always there. */
export function furtherPages(first: number, last: number): number[] {
  const from = Math.max(1, Math.floor(first / PAGE));
  const to = Math.floor(Math.max(last, 0) / PAGE);
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, index) => from + index);
}
