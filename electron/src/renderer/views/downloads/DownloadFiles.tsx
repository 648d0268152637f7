import { BadgeCheck } from "lucide-react";

import type { DownloadStatus } from "@contract";
import { useCall } from "../../client/hooks";
import { Badge } from "../../parts/Badge";
import { Problem } from "../../parts/Problem";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";

/** Each file, and which have been compared with the hub's digest. */
export function DownloadFiles({ download }: { download: DownloadStatus }) {
  const { t, formats } = useTexts();
  // Part of the list's key, so that what makes the list out of date does so here.
  const answer = useCall(
    "get_model_download_status",
    { download_id: download.download_id, files: true },
    { staleTime: 0 },
  );
  if (answer.isError) return <Problem error={answer.error} />;
  const files = answer.data?.files ?? [];
  const done = files.filter((file) => file.state === "done").length;
  return (
    <div className={parts.field}>
      {done > 0 && (
        <p className={parts.row}>
          <Badge tone="good">
            <BadgeCheck aria-hidden />
            {t("downloads.verified", { count: done })}
          </Badge>
        </p>
      )}
      <table>
        <tbody>
          {files.map((file) => (
            <tr key={file.path}>
              <td>{file.path}</td>
              <td className={view.numbers}>
                {t("downloads.of", { done: formats.bytes(file.downloaded), total: formats.bytes(file.size) })}
              </td>
              <td>
                <Badge tone={file.state === "done" ? "good" : "plain"}>{t(`downloads.file.${file.state}`)}</Badge>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
