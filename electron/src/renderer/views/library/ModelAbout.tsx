import { FolderOpen, ShieldCheck, Trash2 } from "lucide-react";

import { useClient } from "../../client/hooks";
import { Badge } from "../../parts/Badge";
import { Button } from "../../parts/Button";
import { ExternalLink } from "../../parts/ExternalLink";
import { Facts } from "../../parts/Facts";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import css from "./Library.module.css";
import { RelatedModels } from "./RelatedModels";
import type { ModelFacts } from "./metadata";
import { useDelete } from "./useDelete";
import { useVerify } from "./useVerify";

interface Props {
  modelId: string;
  folder: string;
  facts: ModelFacts;
  onClose: () => void;
}

export function ModelAbout({ modelId, folder, facts, onClose }: Props) {
  const { t, formats } = useTexts();
  const client = useClient();
  const act = useAct();
  const remove = useDelete();
  const verify = useVerify();
  const link = facts.link || (facts.repo && `https://huggingface.co/${facts.repo}`);
  return (
    <>
      <div className={parts.row}>
        <Button
          icon={<ShieldCheck aria-hidden />}
          disabled={verify.running}
          onClick={() => verify.start(modelId, facts.name)}
        >
          {t("model.verify")}
        </Button>
        <Button icon={<FolderOpen aria-hidden />} onClick={() => act(() => client.call("open_path", { path: folder }))}>
          {t("common.open_folder")}
        </Button>
        <Button look="danger" icon={<Trash2 aria-hidden />} onClick={() => remove(modelId, facts.name, onClose)}>
          {t("model.delete")}
        </Button>
      </div>
      {verify.message && (
        <p role="status" className={verify.bad ? parts.danger : undefined}>
          {verify.message}
        </p>
      )}
      <Facts
        facts={[
          [t("model.type"), facts.type],
          [t("model.family"), facts.family],
          [t("model.size"), facts.size !== null && formats.bytes(facts.size)],
          [t("model.security"), t(`model.security.${facts.security}`)],
          [t("model.storage"), t(`model.storage.${facts.storage}`)],
          [t("model.license"), facts.license],
          [t("model.base"), facts.base],
          [t("model.repo"), link && <ExternalLink href={link}>{facts.repo || link}</ExternalLink>],
          [t("model.added"), facts.added && formats.date(facts.added)],
          [t("model.updated"), facts.updated && formats.date(facts.updated)],
          [t("model.folder"), <code key="folder">{folder}</code>],
        ]}
      />
      {facts.tags.length > 0 && (
        <div className={parts.row}>
          {facts.tags.map((tag) => (
            <Badge key={tag}>{tag}</Badge>
          ))}
        </div>
      )}
      {facts.notes && <LongText title={t("model.notes")} text={facts.notes} />}
      {facts.base && <RelatedModels modelId={modelId} />}
      {facts.description && <LongText title={t("model.description")} text={facts.description} />}
    </>
  );
}

function LongText({ title, text }: { title: string; text: string }) {
  return (
    <section>
      <h3>{title}</h3>
      <p className={css.text}>{text}</p>
    </section>
  );
}
