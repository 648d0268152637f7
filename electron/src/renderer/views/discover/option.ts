import type { HubOption } from "@contract";
import type { TextKey } from "../../texts/texts";

/** Its own label does not choose a file or a projector: that is the weights' of the same precision. */
export function wishOf(option: HubOption): { quant?: string; filenames?: string[] } {
  if (option.kind === "all") return {};
  return option.kind === "quant" && option.quant !== null ? { quant: option.quant } : { filenames: option.weights };
}

export function optionName(option: HubOption, t: (key: TextKey) => string): string {
  if (option.kind === "all") return t("discover.option.all");
  if (option.kind === "quant" && option.quant !== null) return option.quant.toUpperCase();
  const file = option.weights[0] ?? "";
  return option.kind === "projector" ? `${t("discover.option.projector")} ${file}` : file;
}
