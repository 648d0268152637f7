import { Cpu, Gauge, HardDrive, MemoryStick, MonitorDot } from "lucide-react";
import type { ReactNode } from "react";

import type { History } from "../../lib/history";
import Curve from "../../parts/Curve";
import parts from "../../parts/parts.module.css";
import { useTexts } from "../../texts/texts";
import view from "../view.module.css";
import { AppsLoad } from "./AppsLoad";
import { Jobs } from "./Jobs";
import { curves, useLoad } from "./load";

const GIB = 1024 ** 3;

export default function Monitor() {
  const { t, formats } = useTexts();
  const { load, version } = useLoad();
  const machine = load?.resources;
  const used = (part: number, total: number) =>
    t("monitor.used", { used: formats.bytes(part * GIB), total: formats.bytes(total * GIB) });
  const percent = (value: number) => `${formats.count(Math.round(value))} %`;
  const size = (gib: number) => formats.bytes(gib * GIB);
  const hot = (temp: number | null) => (temp === null ? "" : ` · ${t("monitor.temp", { value: Math.round(temp) })}`);
  return (
    <div className={view.view} tabIndex={0}>
      <div className={view.inner}>
        <header className={view.head}>
          <h1>{t("monitor.title")}</h1>
        </header>
        {machine === undefined && <p role="status">{t("monitor.waiting")}</p>}
        {machine && (
          <div className={view.grid}>
            <Card
              icon={<Cpu aria-hidden size={18} />}
              name={t("monitor.cpu")}
              value={percent(machine.cpu.usage) + hot(machine.cpu.temp)}
              curve={{ history: curves.cpu, version, max: 100, format: percent }}
            />
            <Card
              icon={<MemoryStick aria-hidden size={18} />}
              name={t("monitor.ram")}
              value={used(machine.ram.used, machine.ram.total)}
              curve={{ history: curves.ram, version, max: machine.ram.total, format: size }}
            />
            {machine.gpus.length > 0 && (
              <>
                <Card
                  icon={<Gauge aria-hidden size={18} />}
                  name={machine.gpus[0]?.name ?? t("monitor.gpu")}
                  value={percent(machine.gpu.usage) + hot(machine.gpu.temp)}
                  curve={{ history: curves.gpu, version, max: 100, format: percent }}
                />
                <Card
                  icon={<MonitorDot aria-hidden size={18} />}
                  name={t("monitor.vram")}
                  value={used(
                    machine.gpus.reduce((sum, gpu) => sum + gpu.memory, 0),
                    machine.gpus.reduce((sum, gpu) => sum + gpu.memory_total, 0),
                  )}
                  curve={{
                    history: curves.vram,
                    version,
                    max: machine.gpus.reduce((sum, gpu) => sum + gpu.memory_total, 0),
                    format: size,
                  }}
                />
              </>
            )}
            <Card
              icon={<HardDrive aria-hidden size={18} />}
              name={t("monitor.disk")}
              value={`${used(machine.disk.used, machine.disk.total)} · ${t("common.free", { size: size(machine.disk.free) })}`}
              curve={{ history: curves.disk, version, max: machine.disk.total, format: size }}
            />
          </div>
        )}
        {machine?.gpus.length === 0 && <p className={parts.hint}>{t("monitor.no_gpu")}</p>}
        <AppsLoad apps={load?.apps ?? []} version={version} />
        <Jobs />
      </div>
    </div>
  );
}

interface CardProps {
  icon: ReactNode;
  name: string;
  value: string;
  curve: { history: History; version: number; max: number; format: (value: number) => string };
}

function Card({ icon, name, value, curve }: CardProps) {
  const { t } = useTexts();
  return (
    <section className={parts.card} aria-label={name}>
      <div className={view.spread}>
        <h2 className={parts.row}>
          {icon} {name}
        </h2>
        <strong className={view.numbers}>{value}</strong>
      </div>
      <Curve label={t("monitor.curve", { name })} colors={["--accent"]} {...curve} />
    </section>
  );
}
