import { PowerOff } from "lucide-react";
import { useEffect, useState } from "react";

import type { PumasBridge, SidecarState } from "../../preload/bridge";
import { Button } from "../parts/Button";
import { Empty } from "../parts/Empty";
import { useAct } from "../parts/useAct";
import { useTexts } from "../texts/texts";
import view from "../views/view.module.css";

/** In the desktop shell: a sidecar that does not start any more, why, and the end of what it wrote. */
export default function ShellState({ bridge }: { bridge: PumasBridge }) {
  const { t } = useTexts();
  const act = useAct();
  const [state, setState] = useState<SidecarState | null>(null);
  useEffect(() => {
    act(async () => setState(await bridge.sidecar()));
    return bridge.onSidecar(setState);
  }, [act, bridge]);
  if (state?.phase !== "failed") return null;
  return (
    <section className={view.view} role="alert">
      <Empty icon={<PowerOff aria-hidden />} title={t("health.failed")} hint={state.reason}>
        <Button look="primary" onClick={() => act(() => bridge.restartSidecar())}>
          {t("health.restart")}
        </Button>
      </Empty>
      <pre className={view.log} tabIndex={0} aria-label={t("apps.log")}>
        {state.log.join("\n")}
      </pre>
    </section>
  );
}
