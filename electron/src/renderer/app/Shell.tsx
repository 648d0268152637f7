import { lazy, Suspense, useEffect, useState } from "react";

import { useConnection } from "../client/hooks";
import { keepFocus } from "../lib/keepFocus";
import { VIEWS, go, useRoute } from "../lib/route";
import { useSettled } from "../lib/useSettled";
import { useTexts } from "../texts/texts";
import { HealthBanner } from "./HealthBanner";
import { LockedOutMessage } from "./LockedOut";
import { Navigation } from "./Navigation";
import { Notices } from "./Notices";
import css from "./Shell.module.css";
import { useShortcuts } from "./shortcuts";
import { ViewBoundary } from "./ViewBoundary";
import { VIEW_COMPONENTS, fetchViews } from "./views";

const ShellState = lazy(() => import("./ShellState"));
const ShortcutList = lazy(() => import("./ShortcutList"));
const Palette = lazy(() => import("./Palette"));
const DropImport = lazy(() => import("../views/library/DropImport"));

type Open = "palette" | "shortcuts" | null;

export function Shell() {
  const { t } = useTexts();
  const route = useRoute();
  const connection = useConnection();
  const [open, setOpen] = useState<Open>(null);
  const close = () => setOpen(null);
  const settled = useSettled();
  useEffect(() => {
    if (settled) void fetchViews();
  }, [settled]);
  useEffect(() => keepFocus(() => document.getElementById("content")), []);
  useShortcuts({
    palette: () => setOpen((now) => (now === "palette" ? null : "palette")),
    help: () => setOpen("shortcuts"),
    view: (number) => {
      const view = VIEWS[number - 1];
      if (view !== undefined) go(view);
    },
  });
  const View = VIEW_COMPONENTS[route.view];
  if (connection === "unauthorized") {
    return (
      <main>
        <LockedOutMessage />
      </main>
    );
  }
  return (
    <div className={css.shell}>
      <a className={css.skip} href="#content" onClick={focusContent}>
        {t("app.skip")}
      </a>
      <Navigation current={route.view} onCommands={() => setOpen("palette")} />
      <div className={css.main}>
        <HealthBanner />
        {window.pumas && (
          <Suspense fallback={null}>
            <ShellState bridge={window.pumas} />
          </Suspense>
        )}
        <main id="content" className={css.view} tabIndex={-1} key={route.view}>
          <ViewBoundary>
            <Suspense fallback={null}>
              <View item={route.item} />
            </Suspense>
          </ViewBoundary>
        </main>
      </div>
      <Suspense fallback={null}>
        {open === "palette" && <Palette onClose={close} onShortcuts={() => setOpen("shortcuts")} />}
        <DropImport />
        {open === "shortcuts" && <ShortcutList onClose={close} />}
      </Suspense>
      <Notices />
    </div>
  );
}

/** The fragment holds the route, so the link may not change it. */
function focusContent(event: { preventDefault(): void }): void {
  event.preventDefault();
  document.getElementById("content")?.focus();
}
