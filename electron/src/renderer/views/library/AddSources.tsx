import { useRef, useState, type SyntheticEvent } from "react";

import { Button } from "../../parts/Button";
import { Field } from "../../parts/Field";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import { chosenFolder, openImport } from "./dropped";

/** By path everywhere; by the system's dialogs in the desktop shell, by the browser's for files. */
export function AddSources() {
  const { t } = useTexts();
  const act = useAct();
  const [path, setPath] = useState("");
  const files = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);
  const bridge = window.pumas;
  const add = (event: SyntheticEvent) => {
    event.preventDefault();
    if (path.trim() === "") return;
    openImport([{ path: path.trim() }]);
    setPath("");
  };
  const choose = (which: () => Promise<string[]>) =>
    act(async () => openImport((await which()).map((one) => ({ path: one }))));
  return (
    <>
      <p className={parts.hint}>{t("import.hint")}</p>
      <form onSubmit={add}>
        <Field label={t("import.path")}>
          {(id) => (
            <div className={parts.row}>
              <input
                id={id}
                className={parts.input}
                style={{ flex: 1 }}
                value={path}
                spellCheck={false}
                onChange={(event) => setPath(event.target.value)}
              />
              <Button type="submit">{t("import.path.add")}</Button>
            </div>
          )}
        </Field>
      </form>
      <div className={parts.row}>
        {bridge ? (
          <>
            <Button onClick={() => choose(() => bridge.chooseFiles())}>{t("import.choose_files")}</Button>
            <Button onClick={() => choose(() => bridge.chooseFolder())}>{t("import.choose_folder")}</Button>
          </>
        ) : (
          <>
            <Button onClick={() => files.current?.click()}>{t("import.choose_files")}</Button>
            <input
              ref={files}
              type="file"
              multiple
              hidden
              aria-label={t("import.choose_files")}
              onChange={(event) => openImport([...(event.target.files ?? [])].map((file) => ({ file })))}
            />
            <Button onClick={() => folder.current?.click()}>{t("import.choose_folder")}</Button>
            <input
              ref={folder}
              type="file"
              {...{ webkitdirectory: "" }}
              hidden
              aria-label={t("import.choose_folder")}
              onChange={(event) => {
                const files = [...(event.target.files ?? [])];
                act(async () => openImport(await Promise.resolve(files).then(chosenFolder)));
              }}
            />
          </>
        )}
      </div>
    </>
  );
}
