// A model's metadata.json as the page shows it. The file may be from older programs: every value is looked at before use.

type Json = Readonly<Record<string, unknown>>;

export interface ModelFile {
  name: string;
  size: number | null;
  sha256: string;
  /** Another program's word for the digest; nobody here hashed the bytes. */
  claimed: string;
}

export interface ModelFacts {
  name: string;
  type: string;
  family: string;
  tags: string[];
  notes: string;
  description: string;
  license: string;
  base: string;
  repo: string;
  link: string;
  security: "safe" | "pickle" | "unknown";
  storage: "owned" | "hardlink" | "reflink" | "reference";
  added: string;
  updated: string;
  size: number | null;
  files: ModelFile[];
}

function text(value: unknown): string {
  return typeof value === "string" ? value.trim() : "";
}

function texts(value: unknown): string[] {
  if (typeof value === "string") return value === "" ? [] : [value];
  return Array.isArray(value) ? value.map(text).filter((one) => one !== "") : [];
}

function count(value: unknown): number | null {
  return typeof value === "number" && value >= 0 ? value : null;
}

function oneOf<T extends string>(value: unknown, choices: readonly T[], otherwise: T): T {
  return choices.find((choice) => choice === value) ?? otherwise;
}

/** As the sidecar does for a model whose metadata says nothing about it (backend/pumas/library/entry.py). */
function tierOf(names: readonly string[]): ModelFacts["security"] {
  if (names.some((name) => /\.(ckpt|pt|pth|bin)$/i.test(name))) return "pickle";
  return names.some((name) => /\.(gguf|safetensors|onnx|ggml)$/i.test(name)) ? "safe" : "unknown";
}

function object(value: unknown): Json {
  return typeof value === "object" && value !== null ? (value as Json) : {};
}

export function readMetadata(metadata: Json, modelId: string): ModelFacts {
  const card = object(metadata.model_card);
  const files = Array.isArray(metadata.files) ? metadata.files.map(object) : [];
  const download = text(metadata.download_url);
  const repo = text(metadata.repo_id) || (/huggingface\.co\/([^/?#]+\/[^/?#]+)/.exec(download)?.[1] ?? "");
  return {
    name: text(metadata.official_name) || text(metadata.cleaned_name) || (modelId.split("/").at(-1) ?? modelId),
    type: [text(metadata.model_type), text(metadata.subtype)].filter((one) => one !== "").join(" / "),
    family: text(metadata.family),
    tags: texts(metadata.tags),
    notes: text(metadata.notes),
    description: text(metadata.description) || text(card.description),
    license: text(metadata.license) || text(card.license),
    base: texts(metadata.base_model).join(", "),
    repo,
    link: /^https?:\/\//.test(download) ? download : "",
    security: oneOf(
      metadata.security_tier,
      ["safe", "pickle", "unknown"],
      tierOf(files.map((file) => text(file.name))),
    ),
    storage: oneOf(metadata.storage, ["owned", "hardlink", "reflink", "reference"], "owned"),
    added: text(metadata.added_date),
    updated: text(metadata.updated_date),
    size: count(metadata.size_bytes),
    files: files.map((file) => ({
      name: text(file.name),
      size: count(file.size),
      sha256: text(file.sha256),
      claimed: text(file.claimed_sha256),
    })),
  };
}

/** Tags as a person writes them. */
export function parseTags(line: string): string[] {
  return [...new Set(line.split(",").map((tag) => tag.trim()))].filter((tag) => tag !== "");
}

export function versionRanges(overrides: Json): Record<string, string> {
  const ranges = Object.entries(object(overrides.version_ranges));
  return Object.fromEntries(ranges.flatMap(([app, range]) => (typeof range === "string" ? [[app, range]] : [])));
}
