import { HardDrive, Search } from "lucide-react";
import { useState, type SyntheticEvent } from "react";

import { useCall, useClient, useEvent } from "../../client/hooks";
import type { PumasEvent } from "../../client/types";
import { useKept } from "../../lib/kept";
import { Badge } from "../../parts/Badge";
import { Button } from "../../parts/Button";
import { Empty } from "../../parts/Empty";
import { Field } from "../../parts/Field";
import { Problem } from "../../parts/Problem";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";
import { Adoptions } from "./Adoptions";
import { RepeatedFiles } from "./RepeatedFiles";
import { StoreCard } from "./StoreCard";

export default function Stores() {
  const { t, formats } = useTexts();
  const [folders, setFolders] = useKept<readonly string[]>("stores.folders", []);
  const [text, setText] = useState(folders.join("\n"));
  const client = useClient();
  const act = useAct();
  const params = { folders: [...folders] };
  const scan = useCall("scan_model_stores", params, { gcTime: 600_000 });
  const found = scan.data;
  // A scan that takes long goes on as a job; when that has ended, asking with its id brings the answer.
  const hear = ({ data }: PumasEvent) => {
    if (!found?.pending || data.job_id !== found.job_id || data.state === "running") return;
    act(async () => {
      const ended = await client.call("scan_model_stores", { ...params, job_id: found.job_id });
      client.queries.setQueryData(["scan_model_stores", params], ended);
    });
  };
  useEvent("job.state", hear);
  const again = (event: SyntheticEvent) => {
    event.preventDefault();
    const next = text
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== "");
    if (next.join("\n") === folders.join("\n")) void scan.refetch();
    else setFolders(next);
  };
  const stores = found?.stores.filter((store) => store.models.length > 0 || store.problems.length > 0) ?? [];
  return (
    <div className={view.view}>
      <div className={view.inner}>
        <header className={view.head}>
          <h1>{t("stores.title")}</h1>
        </header>
        <form onSubmit={again} className={parts.card}>
          <p className={parts.hint}>{t("stores.hint")}</p>
          <Field label={t("stores.folder")} hint={t("stores.folder.hint")}>
            {(id) => (
              <textarea
                id={id}
                className={parts.input}
                style={{ minHeight: 54 }}
                rows={2}
                value={text}
                spellCheck={false}
                onChange={(event) => setText(event.target.value)}
              />
            )}
          </Field>
          <div className={parts.row}>
            <Button type="submit" icon={<Search aria-hidden />} disabled={scan.isFetching}>
              {t("stores.scan")}
            </Button>
            {(scan.isFetching || found?.pending) && <span role="status">{t("stores.scanning")}</span>}
          </div>
        </form>
        {scan.isError && <Problem error={scan.error} />}
        {found && !found.pending && (
          <>
            <div className={parts.row}>
              <Badge tone="accent">{t("stores.saves", { size: formats.bytes(found.freed_bytes) })}</Badge>
              {found.shared_bytes > 0 && (
                <Badge tone="good">{t("stores.shared", { size: formats.bytes(found.shared_bytes) })}</Badge>
              )}
              {found.possible_bytes > 0 && (
                <Badge>{t("stores.possible", { size: formats.bytes(found.possible_bytes) })}</Badge>
              )}
            </div>
            {stores.length === 0 && (
              <Empty icon={<HardDrive aria-hidden />} title={t("stores.empty")} hint={t("stores.empty.hint")} />
            )}
            <div className={view.grid}>
              {stores.map((store) => (
                <StoreCard key={`${store.kind} ${store.path}`} store={store} folders={folders} />
              ))}
            </div>
            <RepeatedFiles repeated={found.repeated} />
          </>
        )}
        <Adoptions />
      </div>
    </div>
  );
}
