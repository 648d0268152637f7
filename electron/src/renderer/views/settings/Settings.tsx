import { useTexts } from "../../texts/texts";
import view from "../view.module.css";
import { AboutSettings } from "./AboutSettings";
import { AppSettings } from "./AppSettings";
import { NetworkSettings } from "./NetworkSettings";
import { PageSettings } from "./PageSettings";
import { ShellSettings } from "./ShellSettings";

export default function Settings() {
  const { t } = useTexts();
  const bridge = window.pumas;
  return (
    <div className={view.view}>
      <div className={view.inner}>
        <header className={view.head}>
          <h1>{t("settings.title")}</h1>
        </header>
        <div className={view.columns}>
          <PageSettings />
          {bridge && <ShellSettings bridge={bridge} />}
          <AppSettings />
          <AboutSettings />
          <NetworkSettings />
        </div>
      </div>
    </div>
  );
}
