import { lazy, Suspense } from "react";

import { useCall } from "../../client/hooks";
import { Badge } from "../../parts/Badge";
import { ExternalLink } from "../../parts/ExternalLink";
import { Facts } from "../../parts/Facts";
import { Problem } from "../../parts/Problem";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";
import { HubOptions } from "./HubOptions";

const ModelCard = lazy(() => import("./ModelCard"));

/** One repository of the hub: what it is, and what of it can be downloaded. */
export function HubModel({ repoId }: { repoId: string }) {
  const { t, formats } = useTexts();
  const answer = useCall("get_hf_model", { repo_id: repoId }, { staleTime: 300_000 });
  const model = answer.data;
  return (
    <div className={view.stack}>
      <header className={parts.field}>
        <h2>{repoId}</h2>
        <div className={parts.row}>
          {model && model.held.length > 0 && <Badge tone="good">{t("discover.held")}</Badge>}
          {model && model.gated !== "no" && <Badge tone="warn">{t("discover.gated")}</Badge>}
          {model?.url && <ExternalLink href={model.url}>{t("discover.page")}</ExternalLink>}
        </div>
      </header>
      {answer.isPending && <p role="status">{t("common.loading")}</p>}
      {answer.isError && <Problem error={answer.error} />}
      {model && (
        <>
          <Facts
            facts={[
              [t("model.type"), [model.model_type, model.subtype].filter(Boolean).join(" / ") || model.task],
              [t("model.family"), model.family],
              [t("model.license"), model.license],
              [t("model.base"), model.base_model.join(", ")],
              [
                t("model.size"),
                [
                  model.parameters !== null &&
                    t("discover.parameters", { count: formats.parameters(model.parameters) }),
                  model.context_length !== null && t("discover.context", { count: model.context_length }),
                ]
                  .filter(Boolean)
                  .join(" · "),
              ],
              [t("model.updated"), model.last_modified && formats.date(model.last_modified)],
            ]}
          />
          <HubOptions model={model} />
          {model.card && (
            <section className={view.stack}>
              <h3>{t("discover.card")}</h3>
              <Suspense fallback={null}>
                <ModelCard text={model.card} />
              </Suspense>
            </section>
          )}
        </>
      )}
    </div>
  );
}
