import { useCall } from "../../client/hooks";
import Curve from "../../parts/Curve";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";
import css from "./Monitor.module.css";
import { curvesOf, type AppLoad } from "./load";

const GIB = 1024 ** 3;

/** What each running app uses, together with all its processes. */
export function AppsLoad({ apps, version }: { apps: readonly AppLoad[]; version: number }) {
  const { t } = useTexts();
  return (
    <section className={view.stack} aria-label={t("monitor.apps")}>
      <h2>{t("monitor.apps")}</h2>
      {apps.length === 0 && <p className={parts.hint}>{t("monitor.apps.none")}</p>}
      <div className={view.grid}>
        {apps.map((app) => (
          <OneApp key={app.pid} app={app} version={version} />
        ))}
      </div>
    </section>
  );
}

function OneApp({ app, version }: { app: AppLoad; version: number }) {
  const { t, formats } = useTexts();
  const apps = useCall("list_apps", {}).data?.apps;
  const known = apps?.find(({ app_id }) => app_id === app.app_id);
  const name = [known?.name ?? app.app_id, app.tag].filter(Boolean).join(" ");
  const { cpu, memory } = curvesOf(app.pid);
  const percent = (value: number) => `${formats.decimal(value)} %`;
  const size = (gib: number) => formats.bytes(gib * GIB);
  return (
    <article className={parts.card} aria-label={name}>
      <h3>{name}</h3>
      <Figure name={t("monitor.cpu")} value={percent(app.cpu_usage)} line="--accent" />
      <Curve
        label={t("monitor.curve", { name: `${name}: ${t("monitor.cpu")}` })}
        history={cpu}
        version={version}
        colors={["--accent"]}
        least={10}
        height={90}
        format={percent}
      />
      <Figure name={t("monitor.ram")} value={size(app.ram_memory)} line="--accent" />
      <Figure name={t("monitor.vram")} value={size(app.gpu_memory)} line="--good" />
      <Curve
        label={t("monitor.curve", { name: `${name}: ${t("monitor.ram")}, ${t("monitor.vram")}` })}
        history={memory}
        version={version}
        colors={["--accent", "--good"]}
        least={0.1}
        height={90}
        format={size}
      />
    </article>
  );
}

/** A number with the colour of its line. */
function Figure({ name, value, line }: { name: string; value: string; line: "--accent" | "--good" }) {
  return (
    <p className={view.spread}>
      <span>
        <span className={css.line} style={{ background: `var(${line})` }} aria-hidden /> {name}
      </span>
      <strong className={view.numbers}>{value}</strong>
    </p>
  );
}
