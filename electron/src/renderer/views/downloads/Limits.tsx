import * as Slider from "@radix-ui/react-slider";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { useCall, useChange } from "../../client/hooks";
import type { Params } from "../../client/types";
import { Field } from "../../parts/Field";
import { Toggle } from "../../parts/Toggle";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";
import { NO_LIMIT, limitAt, stepOf } from "./limits";

type Schedule = NonNullable<Params<"set_download_limits">["schedule"]>;

const NIGHT = { start: "22:00", end: "07:00" };

export function Limits() {
  const { t, formats } = useTexts();
  const act = useAct();
  const answer = useCall("get_download_limits", {});
  const { mutateAsync } = useChange("set_download_limits");
  const queries = useQueryClient();
  const limits = answer.data;
  const [dragged, setDragged] = useState<number | null>(null);
  const stored = limits?.bytes_per_second ?? null;
  const step = dragged ?? stepOf(stored);
  const set = async (params: Params<"set_download_limits">) =>
    queries.setQueryData(["get_download_limits", {}], await mutateAsync(params));
  const change = (params: Params<"set_download_limits">) => act(() => set(params));
  const limit = dragged === null ? stored : limitAt(dragged);
  const shown = limit === null ? t("downloads.limit.none") : t("downloads.speed", { speed: formats.bytes(limit) });
  const schedule = limits?.schedule ?? null;
  return (
    <section className={parts.card} aria-label={t("downloads.limits")}>
      <h2>{t("downloads.limits")}</h2>
      <div className={view.spread}>
        <span>{t("downloads.limit")}</span>
        <strong>{shown}</strong>
      </div>
      <Slider.Root
        className={parts.slider}
        min={0}
        max={NO_LIMIT}
        value={[step]}
        onValueChange={([value]) => setDragged(value ?? NO_LIMIT)}
        onValueCommit={([value]) =>
          act(async () => {
            await set({ bytes_per_second: limitAt(value ?? NO_LIMIT) ?? 0 }).finally(() => setDragged(null));
          })
        }
      >
        <Slider.Track className={parts.track}>
          <Slider.Range className={parts.range} />
        </Slider.Track>
        <Slider.Thumb className={parts.sliderThumb} aria-label={t("downloads.limit")} aria-valuetext={shown} />
      </Slider.Root>
      <Field label={t("downloads.at_once")}>
        {(id) => (
          <select
            id={id}
            className={parts.input}
            value={limits?.at_once ?? 1}
            disabled={limits === undefined}
            onChange={(event) => change({ at_once: Number(event.target.value) })}
          >
            {Array.from({ length: 16 }, (_, n) => (
              <option key={n}>{n + 1}</option>
            ))}
          </select>
        )}
      </Field>
      <Toggle
        label={t("downloads.schedule")}
        checked={schedule !== null}
        onChange={(on) => change(on ? { schedule: NIGHT } : { any_time: true })}
      />
      {schedule && (
        <div className={parts.row}>
          {t("downloads.schedule.from")}
          <Time
            label={t("downloads.schedule.from")}
            value={schedule.start}
            onChange={(start) => change({ schedule: { ...schedule, start } as Schedule })}
          />
          {t("downloads.schedule.until")}
          <Time
            label={t("downloads.schedule.until")}
            value={schedule.end}
            onChange={(end) => change({ schedule: { ...schedule, end } as Schedule })}
          />
        </div>
      )}
      {schedule && limits?.open === false && (
        <p className={parts.hint}>{t("downloads.closed", { start: schedule.start })}</p>
      )}
    </section>
  );
}

function Time({ label, value, onChange }: { label: string; value: string; onChange: (value: string) => void }) {
  return (
    <input
      type="time"
      className={parts.input}
      style={{ width: "auto" }}
      aria-label={label}
      key={value} // changed elsewhere, it begins anew
      defaultValue={value}
      onBlur={(event) => event.target.value !== "" && event.target.value !== value && onChange(event.target.value)}
    />
  );
}
