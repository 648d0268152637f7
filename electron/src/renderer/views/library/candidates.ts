// From what a person dropped or named to what would be imported: shards become one item, each item is tried dry.
import type { ImportItem, ImportSpec, ShardGroup } from "@contract";
import type { Client } from "../../client/client";

export type Mode = "copy" | "hardlink" | "move";

export interface Candidate {
  path: string;
  /** Handed over by a browser: the copy below launcher-data is ours and is moved. */
  received: boolean;
  shards: ShardGroup | null;
  outcome: ImportItem;
  name: string;
  modelType: string;
  trusted: boolean;
  again: boolean;
}

export interface Placed {
  path: string;
  received: boolean;
}

/** One path for each model: of a set of shards the first, which brings the others along. */
export function firstOfEach(
  placed: readonly Placed[],
  groups: Readonly<Record<string, ShardGroup>>,
): (Placed & { shards: ShardGroup | null })[] {
  const setOf = new Map<string, ShardGroup>();
  for (const group of Object.values(groups)) {
    if (group.files.length > 1 || group.validation.total_expected > 1) {
      for (const file of group.files) setOf.set(file, group);
    }
  }
  const seen = new Set<ShardGroup>();
  return placed.flatMap((one) => {
    const shards = setOf.get(one.path) ?? null;
    if (shards !== null && seen.has(shards)) return [];
    if (shards !== null) seen.add(shards);
    return [{ ...one, shards }];
  });
}

/** Each with what its dry run says. A folder of several models stands for each of them. */
export async function examine(client: Client, placed: readonly Placed[]): Promise<Candidate[]> {
  const found = await tried(client, placed);
  const inside = found.flatMap(({ received, outcome }) =>
    (outcome.candidates ?? []).map((path) => ({ path, received })),
  );
  const known = new Set(found.map(({ path }) => path));
  const others = await tried(
    client,
    inside.filter(({ path }) => !known.has(path)),
  );
  return [...found.filter(({ outcome }) => (outcome.candidates ?? []).length === 0), ...others];
}

async function tried(client: Client, placed: readonly Placed[]): Promise<Candidate[]> {
  if (placed.length === 0) return [];
  const { groups } = await client.call("detect_sharded_sets", { file_paths: placed.map(({ path }) => path) });
  const items = firstOfEach(placed, groups);
  const { results } = await client.call("import_batch", {
    import_specs: items.map(({ path }) => ({ path })),
    dry_run: true,
  });
  return items.map((item, index) => ({
    ...item,
    outcome: results[index] ?? { path: item.path, success: false },
    name: "",
    modelType: "",
    trusted: false,
    again: false,
  }));
}

export type Obstacle = "pickle" | "duplicate" | "refused" | null;

/** What stands in the way of an import, as the dry run said. */
export function obstacle({ outcome }: Candidate): Obstacle {
  if (outcome.success) return null;
  if (outcome.error_code === "pickle_not_acknowledged") return "pickle";
  if (outcome.error_code === "duplicate_model") return "duplicate";
  return "refused";
}

export function isReady(candidate: Candidate): boolean {
  const wall = obstacle(candidate);
  return wall === null || (wall === "pickle" && candidate.trusted) || (wall === "duplicate" && candidate.again);
}

export function importSpec(candidate: Candidate, mode: Mode): ImportSpec {
  return {
    path: candidate.path,
    mode: candidate.received ? "move" : mode,
    security_acknowledged: candidate.trusted,
    allow_duplicate: candidate.again,
    ...(candidate.name !== "" && { official_name: candidate.name }),
    ...(candidate.modelType !== "" && { model_type: candidate.modelType }),
  };
}

/** Candidates with what a person changed about them; those that were left out (null) are gone. */
export function edited(
  candidates: readonly Candidate[],
  edits: Readonly<Record<string, Partial<Candidate> | null>>,
): Candidate[] {
  return candidates.flatMap((one) => {
    const edit = edits[one.path];
    return edit === null ? [] : [{ ...one, ...edit }];
  });
}
