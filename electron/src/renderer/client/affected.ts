// Which answers an event makes out of date. The one place that says so: views only name the methods they show.
import type { MethodName } from "./types";

const LIBRARY = [
  "search_models_fts",
  "get_model_facets",
  "get_library_status",
  "get_model",
  "get_links_for_model",
  "list_trash",
  "get_disk_space",
] as const satisfies MethodName[];

const LINKS = [
  "preview_model_mapping",
  "get_link_health",
  "list_links",
  "get_links_for_model",
  // Which apps use a model can be searched for.
  "get_model_facets",
  "search_models_fts",
] as const satisfies MethodName[];

export const OF_TOPIC: Readonly<Record<string, readonly MethodName[]>> = {
  "model.added": LIBRARY,
  "model.changed": LIBRARY,
  "model.removed": LIBRARY,
  "library.changed": LIBRARY,
  "download.limits": ["get_download_limits"],
  "download.order": ["list_model_downloads"],
  "process.state": ["list_processes", "get_status", "get_process_log"],
  "process.settings": ["get_process_settings"],
  "version.changed": [
    "list_apps",
    "get_version_status",
    "get_available_versions",
    "list_removed_versions",
    "preview_model_mapping",
    "get_link_health",
  ],
  "links.changed": LINKS,
  "releases.changed": ["get_available_versions", "get_github_cache_status"],
  "network.state": ["get_network_status"],
  "network.settings": ["get_network_status", "get_network_settings"],
};

/** Jobs of some kinds change more than the list of jobs when they end. */
const OF_ENDED_JOB: Readonly<Record<string, readonly MethodName[]>> = {
  import: LIBRARY,
  verify: LIBRARY,
  download: [...LIBRARY, "list_model_downloads"],
  adopt: [...LIBRARY, "list_adoptions"],
  install: ["list_apps", "get_version_status", "get_installation_progress"],
  links: LINKS,
};

const ENDED = new Set(["completed", "failed", "cancelled"]);

export function affectedBy(topic: string, data: Readonly<Record<string, unknown>>): readonly MethodName[] {
  if (topic !== "job.state") return OF_TOPIC[topic] ?? [];
  const ofKind = data.kind === "download" ? (["list_model_downloads"] as const) : [];
  const atEnd = ENDED.has(String(data.state)) ? (OF_ENDED_JOB[String(data.kind)] ?? []) : [];
  return ["list_jobs", ...ofKind, ...atEnd];
}

/** What a call of ours changes that no event tells of, in this tab and in the others. */
export const CHANGED_BY: Partial<Record<MethodName, readonly MethodName[]>> = {
  delete_model_with_cascade: LIBRARY,
  restore_model: LIBRARY,
  empty_trash: ["list_trash", "get_disk_space"],
  update_model: LIBRARY,
  update_model_overrides: ["get_model", "preview_model_mapping"],
  apply_model_mapping: ["preview_model_mapping", "get_link_health", "get_links_for_model"],
  sync_with_resolutions: ["preview_model_mapping", "get_link_health", "get_links_for_model"],
  remove_orphaned_links: ["get_link_health", "preview_model_mapping"],
  clean_broken_links: ["get_link_health", "preview_model_mapping"],
  adopt_models: [...LIBRARY, "list_adoptions", "scan_model_stores"],
  undo_adoption: [...LIBRARY, "list_adoptions", "scan_model_stores"],
  purge_removed_version: ["list_removed_versions"],
  remove_version: ["list_removed_versions", "list_apps", "get_version_status"],
  set_default_version: ["get_version_status"],
  switch_version: ["list_apps", "get_version_status"],
};
