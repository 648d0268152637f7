import { useState, type SyntheticEvent } from "react";

import { useCall, useChange } from "../../client/hooks";
import { Badge } from "../../parts/Badge";
import { Button } from "../../parts/Button";
import { Field } from "../../parts/Field";
import { Problem } from "../../parts/Problem";
import { Toggle } from "../../parts/Toggle";
import { notify } from "../../parts/notices";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";

export function NetworkSettings() {
  const { t } = useTexts();
  const act = useAct();
  const answer = useCall("get_network_settings", {});
  const change = useChange("set_network_settings");
  const settings = answer.data?.settings;
  const [draft, setDraft] = useState<{ proxy?: string; ca?: string }>({});
  const stored = { proxy: settings?.proxy ?? "", ca: settings?.ca_bundle ?? "" };
  const { proxy, ca } = { ...stored, ...draft };
  const save = (event: SyntheticEvent) => {
    event.preventDefault();
    act(async () => {
      await change.mutateAsync({ proxy: proxy.trim(), ca_bundle: ca.trim() });
      setDraft({});
      notify({ tone: "good", text: t("settings.saved") });
    });
  };
  return (
    <section className={parts.card} aria-label={t("settings.network")}>
      <h2>{t("settings.network")}</h2>
      {answer.isError && <Problem error={answer.error} />}
      <Toggle
        label={t("settings.offline")}
        hint={t("settings.offline.hint")}
        checked={settings?.offline ?? false}
        disabled={settings === undefined}
        onChange={(offline) => act(() => change.mutateAsync({ offline }))}
      />
      <form className={parts.form} onSubmit={save}>
        <Field label={t("settings.proxy")} hint={t("settings.proxy.hint")}>
          {(id) => (
            <input
              id={id}
              className={parts.input}
              value={proxy}
              spellCheck={false}
              onChange={(e) => setDraft({ ...draft, proxy: e.target.value })}
            />
          )}
        </Field>
        <Field label={t("settings.ca")} hint={t("settings.ca.hint")}>
          {(id) => (
            <input
              id={id}
              className={parts.input}
              value={ca}
              spellCheck={false}
              onChange={(e) => setDraft({ ...draft, ca: e.target.value })}
            />
          )}
        </Field>
        <div className={parts.row}>
          <Button type="submit" disabled={change.isPending || (proxy === stored.proxy && ca === stored.ca)}>
            {t("common.save")}
          </Button>
        </div>
      </form>
      <Hosts />
    </section>
  );
}

const TONES = { closed: "good", open: "bad", half_open: "warn" } as const;

/** How the sidecar's own requests fared, host by host. */
function Hosts() {
  const { t } = useTexts();
  const hosts = useCall("get_network_status", {}, { staleTime: 0 }).data?.hosts ?? [];
  return (
    <>
      <h3>{t("settings.hosts")}</h3>
      {hosts.length === 0 ? (
        <p className={parts.hint}>{t("settings.hosts.none")}</p>
      ) : (
        <div className={view.scrollX}>
          <table>
            <thead>
              <tr>
                <th scope="col">{t("settings.host")}</th>
                <th scope="col">{t("settings.host.requests")}</th>
                <th scope="col">{t("settings.host.failures")}</th>
                <th scope="col">{t("settings.host.state")}</th>
              </tr>
            </thead>
            <tbody>
              {hosts.map((host) => (
                <tr key={host.host}>
                  <td>{host.host}</td>
                  <td>{host.requests}</td>
                  <td title={host.last_error ?? undefined}>{host.failures}</td>
                  <td>
                    <Badge tone={TONES[host.state]}>{t(`settings.host.${host.state}`)}</Badge>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}
