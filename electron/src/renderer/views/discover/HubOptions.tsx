import { Download } from "lucide-react";
import { useState } from "react";

import type { HubOption } from "@contract";
import { useCall, useChange } from "../../client/hooks";
import type { Ok } from "../../client/types";
import { go } from "../../lib/route";
import { Badge, type Tone } from "../../parts/Badge";
import { Button } from "../../parts/Button";
import { Caution } from "../../parts/Problem";
import { Toggle } from "../../parts/Toggle";
import { notify } from "../../parts/notices";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts, type TextKey } from "../../texts/texts";
import view from "../view.module.css";
import { fitOf, type Fit } from "./fit";
import { optionName, wishOf } from "./option";

type Model = Ok<"get_hf_model">;

const FITS: Record<Fit, { text: TextKey; tone: Tone } | null> = {
  vram: { text: "discover.fits_vram", tone: "good" },
  ram: { text: "discover.fits_ram", tone: "good" },
  partly: { text: "discover.partly_vram", tone: "warn" },
  none: { text: "discover.no_vram", tone: "bad" },
  unknown: null,
};
const PICKLE = /\.(bin|ckpt|pt|pth|pkl|pickle)$/i;

export function HubOptions({ model }: { model: Model }) {
  const { t } = useTexts();
  const act = useAct();
  const resources = useCall("get_system_resources", {}, { staleTime: 30_000 });
  const start = useChange("start_model_download_from_hf");
  const [trusted, setTrusted] = useState(false);
  const pickles = model.files
    .filter((file) => PICKLE.test(file.path) && file.role === "weights")
    .map((file) => file.path);
  const download = (option: HubOption) =>
    act(async () => {
      await start.mutateAsync({
        repo_id: model.repo_id,
        revision: model.revision,
        security_acknowledged: trusted,
        ...wishOf(option),
      });
      notify({
        tone: "good",
        text: t("discover.started", { name: `${model.repo_id.split("/").at(-1)} ${optionName(option, t)}` }),
        action: { label: t("nav.downloads"), run: () => go("downloads") },
      });
    });
  return (
    <section className={view.stack} aria-label={t("discover.options")}>
      <h3>{t("discover.options")}</h3>
      {pickles.length > 0 && (
        <Caution>
          <span>{t("discover.pickles", { files: pickles.slice(0, 5).join(", ") })}</span>
          <Toggle label={t("import.pickle.allow")} checked={trusted} onChange={setTrusted} />
        </Caution>
      )}
      <ul className={`${parts.list} ${parts.form}`}>
        {model.options.map((option) => (
          <Option
            key={`${option.kind} ${option.quant} ${option.weights[0]}`}
            option={option}
            fit={fitOf(option.size_bytes, resources.data?.resources)}
            busy={start.isPending}
            onDownload={() => download(option)}
          />
        ))}
      </ul>
      <p className={parts.hint}>
        {t("discover.vram.hint")} {t("downloads.verifiable")}
      </p>
    </section>
  );
}

interface OptionProps {
  option: HubOption;
  fit: Fit;
  busy: boolean;
  onDownload: () => void;
}

function Option({ option, fit, busy, onDownload }: OptionProps) {
  const { t, formats } = useTexts();
  const name = optionName(option, t);
  const fits = FITS[fit];
  return (
    <li className={parts.card} aria-label={name}>
      <div className={view.spread}>
        <div className={parts.field}>
          <strong>{name}</strong>
          <span className={parts.row}>
            <Badge>{t("discover.files", { count: option.file_count })}</Badge>
            <Badge tone={option.fits ? "good" : "bad"}>
              {t(option.fits ? "discover.fits_disk" : "discover.no_disk")}
            </Badge>
            {fits && <Badge tone={fits.tone}>{t(fits.text)}</Badge>}
          </span>
        </div>
        <Button
          look="primary"
          icon={<Download aria-hidden />}
          disabled={busy || !option.fits}
          aria-label={`${t("discover.download.size", { size: formats.bytes(option.size_bytes) })}: ${name}`}
          onClick={onDownload}
        >
          {t("discover.download.size", { size: formats.bytes(option.size_bytes) })}
        </Button>
      </div>
    </li>
  );
}
