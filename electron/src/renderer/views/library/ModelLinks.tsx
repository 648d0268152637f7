import { Link2Off } from "lucide-react";

import { useCall } from "../../client/hooks";
import { go } from "../../lib/route";
import { Badge } from "../../parts/Badge";
import { Button } from "../../parts/Button";
import { Empty } from "../../parts/Empty";
import { Problem } from "../../parts/Problem";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";

/** Which apps find this model, and where. */
export function ModelLinks({ modelId }: { modelId: string }) {
  const { t } = useTexts();
  const answer = useCall("get_links_for_model", { model_id: modelId });
  if (answer.isError) return <Problem error={answer.error} />;
  const links = answer.data?.links ?? [];
  if (answer.data && links.length === 0) {
    return (
      <Empty icon={<Link2Off aria-hidden />} title={t("model.links.none")} hint={t("model.links.hint")}>
        <Button onClick={() => go("apps")}>{t("nav.apps")}</Button>
      </Empty>
    );
  }
  return (
    <ul className={parts.list}>
      {links.map((link) => (
        <li key={link.link_id} className={parts.field}>
          <div className={parts.row}>
            <strong>{link.app_id}</strong> {link.app_version} <Badge>{link.link_type}</Badge>
          </div>
          <code className={parts.hint}>{link.target_path}</code>
        </li>
      ))}
    </ul>
  );
}
