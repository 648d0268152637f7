import { PackageOpen, SearchX } from "lucide-react";

import { go } from "../../lib/route";
import { Button } from "../../parts/Button";
import { Empty } from "../../parts/Empty";
import { useTexts } from "../../texts/texts";

interface Props {
  searching: boolean;
  onClear: () => void;
  onImport: () => void;
}

export function EmptyLibrary({ searching, onClear, onImport }: Props) {
  const { t } = useTexts();
  if (searching) {
    return (
      <Empty icon={<SearchX aria-hidden />} title={t("library.no_hits")} hint={t("library.no_hits.hint")}>
        <Button onClick={onClear}>{t("library.filters.clear")}</Button>
      </Empty>
    );
  }
  return (
    <Empty icon={<PackageOpen aria-hidden />} title={t("library.empty")} hint={t("library.empty.hint")}>
      <Button look="primary" onClick={onImport}>
        {t("library.import")}
      </Button>
      <Button onClick={() => go("discover")}>{t("library.empty.discover")}</Button>
      <Button onClick={() => go("stores")}>{t("library.empty.stores")}</Button>
    </Empty>
  );
}
