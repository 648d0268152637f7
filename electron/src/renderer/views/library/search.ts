// The rows of an answer, page by page as they come into view.
import { keepPreviousData, useQueries } from "@tanstack/react-query";
import { useMemo } from "react";

import type { FoundModel } from "@contract";
import { callOptions, useCall, useClient } from "../../client/hooks";
import type { Client } from "../../client/client";
import type { Ok } from "../../client/types";
import { furtherPages, listParams, PAGE, searchParams, type Search } from "./params";

/** The first page of an answer; while the next one is on its way, the one before stays. */
export function useFirstPage(search: Search) {
  return useCall("search_models_fts", searchParams(search, 0), { placeholderData: keepPreviousData });
}

/** While scrolling, rows before and behind are asked for too, so that a quick scroll seldom meets an empty one. */
const AHEAD = PAGE / 2;

export type RowAt = (index: number) => FoundModel | undefined;

/** Rows of an answer by their place; undefined while their page is on its way. */
export function useFoundModels(search: Search, found: Ok<"search_models_fts">, first: number, last: number): RowAt {
  const client = useClient();
  const ahead = first > 0 ? AHEAD : 0;
  const pages = furtherPages(first - ahead, Math.min(last + ahead, found.total_count - 1));
  const [from = 0, to = -1] = [pages[0], pages.at(-1)];
  // The same as long as the pages are: most steps of a scroll want nothing new.
  const queries = useMemo(
    () =>
      Array.from({ length: to - from + 1 }, (_, place) =>
        callOptions(client, "search_models_fts", searchParams(search, from + place)),
      ),
    [client, search, from, to],
  );
  const answers = useQueries({ queries });
  return (index) => {
    const page = Math.floor(index / PAGE);
    if (page === 0) return found.models[index];
    return answers[pages.indexOf(page)]?.data?.models[index % PAGE];
  };
}

/** The sidecar gives no more at once. */
const MOST_AT_ONCE = 1000;

/** Which row of an answer a model is, when it is none of the first page; null: it is not in it. Raises `CallError`. */
export async function placeBeyondFirstPage(
  client: Client,
  search: Search,
  { total_count }: Ok<"search_models_fts">,
  modelId: string,
  signal: AbortSignal,
): Promise<number | null> {
  for (let offset = PAGE; offset < total_count; offset += MOST_AT_ONCE) {
    const params = { ...listParams(search), offset, limit: MOST_AT_ONCE };
    const { models } = await client.call("search_models_fts", params, signal);
    const place = models.findIndex(({ model_id }) => model_id === modelId);
    if (place >= 0) return offset + place;
  }
  return null;
}
