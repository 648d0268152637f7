// The speed limit on a slider: steps that feel even, from 256 KiB/s to none.

const KIB = 1024;
const STEPS = [256, 512, 1024, 2048, 3072, 5120, 8192, 10240, 15360, 20480, 30720, 51200, 81920, 102400, 204800].map(
  (kib) => kib * KIB,
);

/** The last step means no limit. */
export const NO_LIMIT = STEPS.length;

export function limitAt(step: number): number | null {
  return STEPS[step] ?? null;
}

export function stepOf(limit: number | null): number {
  if (limit === null) return NO_LIMIT;
  const above = STEPS.findIndex((step) => step >= limit);
  return above < 0 ? NO_LIMIT - 1 : above;
}
