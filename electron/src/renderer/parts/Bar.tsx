import css from "./parts.module.css";

/** `value` from 0 to 1. */
export function Bar({ value, label, good = false }: { value: number; label: string; good?: boolean }) {
  const part = Math.min(1, Math.max(0, value));
  return (
    <div
      className={`${css.bar} ${good ? css.barGood : ""}`}
      role="progressbar"
      aria-label={label}
      aria-valuenow={Math.round(part * 100)}
      aria-valuemin={0}
      aria-valuemax={100}
    >
      <div style={{ transform: `scaleX(${part})` }} />
    </div>
  );
}
