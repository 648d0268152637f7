// What a job that hashed files again found, in words.
import type { JobInfo } from "@contract";
import type { Texts } from "../../texts/texts";

const BAD = ["mismatch", "missing", "unreadable"];
const FINE = ["ok", "recorded"];

export function verdict(job: JobInfo, t: Texts["t"], heard: Texts["heard"]): { bad: boolean; text: string } {
  if (job.state !== "completed") return { bad: true, text: heard(job.error ?? job.state) };
  const sum = (names: readonly string[]) => names.reduce((all, name) => all + Number(job.result?.[name] ?? 0), 0);
  const wrong = sum(BAD);
  return wrong > 0
    ? { bad: true, text: t("model.verify.bad", { count: wrong }) }
    : { bad: false, text: t("model.verify.ok", { count: sum(FINE) }) };
}
