// The rows of an answer, page by page as they come into view.
import { keepPreviousData, useQueries } from "@tanstack/react-query";

import type { FoundModel } from "@contract";
import { callOptions, useCall, useClient } from "../../client/hooks";
import { furtherPages, PAGE, searchParams, type Search } from "./params";

/** The first page of an answer; while the next one is on its way, the one before stays. */
export function useFirstPage(search: Search) {
  return useCall("search_models_fts", searchParams(search, 0), { placeholderData: keepPreviousData });
}

export type RowAt = (index: number) => FoundModel | undefined;

/** Rows of an answer by their place; undefined while their page is on its way. */
export function useFoundModels(search: Search, firstPage: readonly FoundModel[], first: number, last: number): RowAt {
  const client = useClient();
  const pages = furtherPages(first, last);
  const answers = useQueries({
    queries: pages.map((page) => callOptions(client, "search_models_fts", searchParams(search, page))),
  });
  return (index) => {
    const page = Math.floor(index / PAGE);
    if (page === 0) return firstPage[index];
    return answers[pages.indexOf(page)]?.data?.models[index % PAGE];
  };
}
