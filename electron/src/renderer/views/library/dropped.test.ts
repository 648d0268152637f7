import { expect, test } from "vitest";

import { chosenFolder, droppedSources } from "./dropped";

interface Tree {
  [name: string]: Tree | string;
}

/** What a browser gives for a folder: entries in portions, the last of which is empty. */
function entry(name: string, content: Tree | string): FileSystemEntry {
  if (typeof content === "string") {
    const file = new File([content], name);
    return { name, isFile: true, isDirectory: false, file: (done: (file: File) => void) => done(file) } as never;
  }
  const entries = Object.entries(content).map(([child, inside]) => entry(child, inside));
  const createReader = () => {
    const left = [...entries];
    return { readEntries: (done: (entries: FileSystemEntry[]) => void) => done(left.splice(0, 2)) };
  };
  return { name, isFile: false, isDirectory: true, createReader } as never;
}

function transfer(tree: Tree): DataTransfer {
  const items = Object.entries(tree).map(([name, content]) => ({ webkitGetAsEntry: () => entry(name, content) }));
  return { items, files: Object.keys(tree).map((name) => new File([], name)) } as never;
}

test("files stay files, folders come with all that counts in them", async () => {
  const model = { "a.safetensors": "1", ".DS_Store": "2", unet: { "b.safetensors": "3", ".git": { HEAD: "4" } } };
  const [file, folder, ...others] = await droppedSources(
    transfer({ Model: { ...model, "Thumbs.db": "5", "c.json": "6" }, "loose.gguf": "7" }),
  );
  expect(file).toMatchObject({ file: { name: "loose.gguf" } });
  expect(folder).toMatchObject({ folder: "Model" });
  const files = folder !== undefined && "files" in folder ? [...folder.files.keys()] : [];
  expect(files.sort()).toEqual(["a.safetensors", "c.json", "unet/b.safetensors"]);
  expect(others).toEqual([]);
});

test("a folder of thousands of files is no model", async () => {
  const many = Object.fromEntries(Array.from({ length: 2001 }, (_, number) => [`${number}.txt`, ""]));
  await expect(droppedSources(transfer({ downloads: many }))).rejects.toMatchObject({ kind: "several_models" });
});

test("a folder that was chosen is the same", () => {
  const file = (path: string) => Object.defineProperty(new File([], "x"), "webkitRelativePath", { value: path });
  const [folder] = chosenFolder(["Model/a.gguf", "Model/.cache/b", "Model/c/d.json"].map(file));
  expect(folder !== undefined && "files" in folder && [...folder.files.keys()]).toEqual(["a.gguf", "c/d.json"]);
  expect(chosenFolder([])).toEqual([]);
});
