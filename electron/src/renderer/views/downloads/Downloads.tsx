import { DownloadCloud } from "lucide-react";

import { useCall } from "../../client/hooks";
import { go } from "../../lib/route";
import { Button } from "../../parts/Button";
import Curve from "../../parts/Curve";
import { Empty } from "../../parts/Empty";
import { Loading } from "../../parts/Loading";
import { Problem } from "../../parts/Problem";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";
import { DownloadCard } from "./DownloadCard";
import { Limits } from "./Limits";
import { Queue } from "./Queue";
import { totalSpeed, useDownloadVersion } from "./live";

const OVER = new Set(["completed", "cancelled"]);

export default function Downloads() {
  const { t, formats } = useTexts();
  const version = useDownloadVersion();
  const answer = useCall("list_model_downloads", {});
  const downloads = answer.data?.downloads ?? [];
  const unfinished = downloads.filter((one) => !OVER.has(one.status));
  const finished = downloads.filter((one) => OVER.has(one.status));
  return (
    <div className={view.view}>
      <div className={view.inner}>
        <header className={view.head}>
          <h1>{t("downloads.title")}</h1>
          <Button onClick={() => go("discover")}>{t("library.empty.discover")}</Button>
        </header>
        {answer.isError && <Problem error={answer.error} />}
        <div className={view.grid}>
          <section className={parts.card} aria-label={t("downloads.speed.curve")}>
            <h2>{t("downloads.speed.curve")}</h2>
            <Curve
              label={t("downloads.speed.curve")}
              history={totalSpeed}
              version={version}
              colors={["--accent"]}
              least={1024 * 1024}
              format={(value) => t("downloads.speed", { speed: formats.bytes(value) })}
            />
            <p className={parts.hint}>{t("downloads.verifiable")}</p>
          </section>
          <Limits />
        </div>
        <section className={view.stack} aria-label={t("downloads.queue")}>
          <h2>{t("downloads.queue")}</h2>
          {answer.isPending && <Loading />}
          {answer.data && unfinished.length === 0 && (
            <Empty icon={<DownloadCloud aria-hidden />} title={t("downloads.empty")} hint={t("downloads.empty.hint")} />
          )}
          <Queue downloads={unfinished} />
        </section>
        {finished.length > 0 && (
          <section className={view.stack} aria-label={t("downloads.finished")}>
            <h2>{t("downloads.finished")}</h2>
            {finished.map((one) => (
              <DownloadCard key={one.download_id} download={one} />
            ))}
          </section>
        )}
      </div>
    </div>
  );
}
