import { useTexts } from "../texts/texts";
import css from "./parts.module.css";

/** Where an answer will be. Seen only when it takes long: most are there before anybody could read this. */
export function Loading() {
  const { t } = useTexts();
  return (
    <span className={css.loading} role="status">
      {t("common.loading")}
    </span>
  );
}
