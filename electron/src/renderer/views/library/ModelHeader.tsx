import { useState } from "react";

import { useCall } from "../../client/hooks";
import { Field } from "../../parts/Field";
import { Facts } from "../../parts/Facts";
import { Problem } from "../../parts/Problem";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";
import css from "./Library.module.css";
import type { ModelFile } from "./metadata";

const READABLE = /\.(gguf|safetensors)$/i;

/** What a file says about itself. */
export function ModelHeader({ folder, files }: { folder: string; files: readonly ModelFile[] }) {
  const { t } = useTexts();
  const names = files.map(({ name }) => name).filter((name) => READABLE.test(name));
  const [name, setName] = useState(names[0] ?? "");
  const header = useCall("get_embedded_metadata", { file_path: `${folder}/${name}` }, { enabled: name !== "" });
  const shown = Object.entries(header.data?.metadata ?? {});
  return (
    <>
      {names.length > 1 && (
        <Field label={t("model.header.file")}>
          {(id) => (
            <select id={id} className={parts.input} value={name} onChange={(event) => setName(event.target.value)}>
              {names.map((one) => (
                <option key={one}>{one}</option>
              ))}
            </select>
          )}
        </Field>
      )}
      {header.isError && <Problem error={header.error} />}
      {(name === "" || (header.data && shown.length === 0)) && <p>{t("model.header.none")}</p>}
      <Facts
        facts={shown.map(([key, value]) => [
          key,
          <span key={key} className={css.text}>
            {typeof value === "string" ? value : JSON.stringify(value)}
            {header.data?.truncated[key] !== undefined && (
              <small className={parts.hint}> … {t("model.header.cut", { count: header.data.truncated[key] })}</small>
            )}
          </span>,
        ])}
      />
    </>
  );
}
