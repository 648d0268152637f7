import { Badge } from "../../parts/Badge";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";
import css from "./Library.module.css";
import type { ModelFacts, ModelFile } from "./metadata";

/** Each file with its digest, and whether anybody here has hashed it. */
export function ModelFiles({ facts }: { modelId: string; facts: ModelFacts }) {
  const { t, formats } = useTexts();
  return (
    <>
      <table>
        <thead>
          <tr>
            <th scope="col">{t("model.files.name")}</th>
            <th scope="col">{t("model.files.size")}</th>
            <th scope="col">{t("model.files.digest")}</th>
          </tr>
        </thead>
        <tbody>
          {facts.files.map((file) => (
            <tr key={file.name}>
              <td>{file.name}</td>
              <td className={css.fileSize}>{file.size !== null && formats.bytes(file.size)}</td>
              <td>
                <Digest file={file} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <p className={parts.hint}>{t("model.digest.hint")}</p>
    </>
  );
}

function Digest({ file }: { file: ModelFile }) {
  const { t } = useTexts();
  const state = file.sha256 ? "hashed" : file.claimed ? "claimed" : "none";
  const tone = { hashed: "good", claimed: "warn", none: "plain" } as const;
  return (
    <>
      <Badge tone={tone[state]}>{t(`model.digest.${state}`)}</Badge>{" "}
      <code className={css.digest}>{file.sha256 || file.claimed}</code>
    </>
  );
}
