import { TriangleAlert } from "lucide-react";
import { lazy, Suspense, useEffect, useState, type ReactNode } from "react";

import { useCall, useChange, useConnection } from "../client/hooks";
import { go } from "../lib/route";
import { useSettled } from "../lib/useSettled";
import { Button } from "../parts/Button";
import { useAct } from "../parts/useAct";
import { useTexts } from "../texts/texts";
import css from "./Shell.module.css";

const TroubleList = lazy(() => import("./TroubleList"));

/** A connection that is back within this time is not worth a word. */
const PATIENCE_MS = 1500;
const LOW_BYTES = 2 * 1024 ** 3;

/** What is wrong with the whole, and what can be done; nothing while all is well. */
export function HealthBanner() {
  const connection = useConnection();
  const lost = useLasting(connection === "unreachable");
  return lost ? <Unreachable /> : <Health />;
}

function Unreachable() {
  const { t } = useTexts();
  const act = useAct();
  const bridge = window.pumas;
  return (
    <Line serious text={t("health.unreachable")} hint={t("health.unreachable.hint")}>
      {bridge && <Button onClick={() => act(() => bridge.restartSidecar())}>{t("health.restart")}</Button>}
    </Line>
  );
}

function Health() {
  const { t } = useTexts();
  const settled = useSettled();
  const library = useCall("get_library_status", {});
  const [showing, setShowing] = useState(false);
  const [seen, setSeen] = useState(0);
  const troubles = library.data?.trouble_count ?? 0;
  return (
    <>
      {library.data?.state === "offline" && <Line serious text={t("health.library_offline")} />}
      {library.data?.state === "read_only" && <Line text={t("health.library_read_only")} />}
      {settled && <MachineHealth />}
      {troubles > seen && (
        <Line text={t("health.troubles", { count: troubles })}>
          <Button onClick={() => setShowing(true)}>{t("health.troubles.show")}</Button>
          <Button look="quiet" onClick={() => setSeen(troubles)}>
            {t("common.dismiss")}
          </Button>
        </Line>
      )}
      {showing && (
        <Suspense fallback={null}>
          <TroubleList troubles={library.data?.troubles ?? []} onClose={() => setShowing(false)} />
        </Suspense>
      )}
    </>
  );
}

/** What is around the library; asked for once the first view is there. */
function MachineHealth() {
  const { t, formats } = useTexts();
  const act = useAct();
  const status = useCall("get_status", {});
  const network = useCall("get_network_settings", {});
  const disk = useCall("get_disk_space", {});
  const install = useChange("install_deps");
  const missing = status.data?.missing_deps ?? [];
  return (
    <>
      {disk.data && disk.data.free < LOW_BYTES && (
        <Line text={t("health.disk_low", { size: formats.bytes(disk.data.free) })} hint={t("error.disk_full")} />
      )}
      {network.data?.settings.offline && (
        <Line text={t("health.offline")}>
          <Button onClick={() => go("settings")}>{t("health.go_settings")}</Button>
        </Line>
      )}
      {missing.length > 0 && (
        <Line text={t("health.missing", { names: missing.join(", ") })}>
          <Button disabled={install.isPending} onClick={() => act(() => install.mutateAsync({}))}>
            {t("health.missing.install")}
          </Button>
        </Line>
      )}
    </>
  );
}

interface LineProps {
  text: string;
  hint?: string;
  serious?: boolean;
  children?: ReactNode;
}

function Line({ text, hint, serious = false, children }: LineProps) {
  return (
    <div className={`${css.banner} ${serious ? css.serious : ""}`} role={serious ? "alert" : "status"}>
      <TriangleAlert aria-hidden />
      <p>
        <strong>{text}</strong> {hint}
      </p>
      {children}
    </div>
  );
}

/** True once `condition` has held for a moment. */
function useLasting(condition: boolean): boolean {
  const [lasting, setLasting] = useState(false);
  useEffect(() => {
    if (!condition) return;
    const timer = setTimeout(() => setLasting(true), PATIENCE_MS);
    return () => {
      clearTimeout(timer);
      setLasting(false);
    };
  }, [condition]);
  return lasting;
}
