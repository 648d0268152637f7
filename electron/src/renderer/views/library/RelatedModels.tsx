import { useState } from "react";

import { useCall } from "../../client/hooks";
import { routeHash } from "../../lib/route";
import { Problem } from "../../parts/Problem";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";

/** Other models of the same family on the hub; asked only when somebody wants to know. */
export function RelatedModels({ modelId }: { modelId: string }) {
  const { t } = useTexts();
  const [open, setOpen] = useState(false);
  const answer = useCall("get_related_models", { model_id: modelId, limit: 10 }, { enabled: open });
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{t("model.related")}</summary>
      {answer.isFetching && <p role="status">{t("common.loading")}</p>}
      {answer.isError && <Problem error={answer.error} />}
      {answer.data?.models.length === 0 && <p className={parts.hint}>{t("discover.empty")}</p>}
      <ul className={parts.list}>
        {answer.data?.models.map((model) => (
          <li key={model.repoId}>
            <a href={routeHash({ view: "discover", item: model.repoId })}>{model.repoId}</a>
          </li>
        ))}
      </ul>
    </details>
  );
}
