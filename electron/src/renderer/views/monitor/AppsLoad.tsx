import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";
import type { AppLoad } from "./load";

const GIB = 1024 ** 3;

/** What each running app uses, together with all its processes. */
export function AppsLoad({ apps }: { apps: readonly AppLoad[] }) {
  const { t, formats } = useTexts();
  return (
    <section className={parts.card} aria-label={t("monitor.apps")}>
      <h2>{t("monitor.apps")}</h2>
      {apps.length === 0 ? (
        <p className={parts.hint}>{t("monitor.apps.none")}</p>
      ) : (
        <table>
          <thead>
            <tr>
              <th scope="col">{t("monitor.app")}</th>
              <th scope="col">{t("monitor.cpu")}</th>
              <th scope="col">{t("monitor.ram")}</th>
              <th scope="col">{t("monitor.vram")}</th>
            </tr>
          </thead>
          <tbody className={view.numbers}>
            {apps.map((app) => (
              <tr key={app.pid}>
                <td>
                  {app.app_id} {app.tag}
                </td>
                <td>{formats.decimal(app.cpu_usage)} %</td>
                <td>{formats.bytes(app.ram_memory * GIB)}</td>
                <td>{formats.bytes(app.gpu_memory * GIB)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}
