import * as Tabs from "@radix-ui/react-tabs";
import { Boxes } from "lucide-react";
import { useState } from "react";

import { useCall } from "../../client/hooks";
import { go } from "../../lib/route";
import { Badge } from "../../parts/Badge";
import { Empty } from "../../parts/Empty";
import { ExternalLink } from "../../parts/ExternalLink";
import { Loading } from "../../parts/Loading";
import { Problem } from "../../parts/Problem";
import { TabList } from "../../parts/TabList";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";
import { AppLinks } from "./AppLinks";
import { AppVersions } from "./AppVersions";
import { Installation, type AskedFor } from "./Installation";
import { ProcessLog } from "./ProcessLog";
import { RunControls } from "./RunControls";
import { useRuns } from "./runs";

export default function Apps({ item }: { item: string }) {
  const { t, heard } = useTexts();
  const answer = useCall("list_apps", {});
  const runs = useRuns();
  const apps = answer.data?.apps ?? [];
  const current = apps.find((app) => app.app_id === item) ?? apps[0];
  const [asked, setAsked] = useState<AskedFor | null>(null);
  return (
    <div className={view.split} style={{ gridTemplateColumns: "minmax(220px, 0.4fr) minmax(0, 1.6fr)" }}>
      <header className={view.splitHead}>
        <h1>{t("apps.title")}</h1>
      </header>
      <nav className={view.pane} aria-label={t("apps.title")}>
        {answer.isPending && (
          <p className={view.result}>
            <Loading />
          </p>
        )}
        {answer.isError && <Problem error={answer.error} />}
        {answer.data && apps.length === 0 && <Empty icon={<Boxes aria-hidden />} title={t("apps.none")} />}
        {apps.map((app) => {
          const run = runs.find((one) => one.app_id === app.app_id);
          return (
            <button
              key={app.app_id}
              type="button"
              className={view.result}
              aria-current={app === current ? "true" : undefined}
              onClick={() => go("apps", app.app_id)}
            >
              <span className={view.spread}>
                <strong>{app.name}</strong>
                {run && <Badge tone={run.state === "ready" ? "good" : "warn"}>{t(`apps.state.${run.state}`)}</Badge>}
              </span>
              <span className={parts.hint}>{app.active ?? t("apps.none")}</span>
            </button>
          );
        })}
      </nav>
      <section className={view.pane} aria-label={current?.name}>
        {current && (
          <div className={view.stack}>
            <div className={view.spread}>
              <div className={parts.field}>
                <h2>{current.name}</h2>
                <p className={parts.hint}>
                  {heard(current.description)} <ExternalLink href={current.homepage}>{t("apps.homepage")}</ExternalLink>
                </p>
              </div>
              <RunControls app={current} run={runs.find((one) => one.app_id === current.app_id)} />
            </div>
            <Installation app={current} asked={asked} />
            <Tabs.Root key={current.app_id} defaultValue="versions">
              <TabList
                label={current.name}
                tabs={[
                  { value: "versions", label: t("apps.tab.versions") },
                  { value: "log", label: t("apps.tab.log") },
                  ...(current.takes_models ? [{ value: "links", label: t("apps.tab.links") }] : []),
                ]}
              />
              <Tabs.Content value="versions">
                <AppVersions app={current} onInstall={setAsked} />
              </Tabs.Content>
              <Tabs.Content value="log">
                <ProcessLog appId={current.app_id} />
              </Tabs.Content>
              <Tabs.Content value="links">
                <AppLinks app={current} />
              </Tabs.Content>
            </Tabs.Root>
          </div>
        )}
      </section>
    </div>
  );
}
