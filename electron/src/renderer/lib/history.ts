// A curve's points over the last minutes. Bounded, so that a page that is open for days stays as small as it was.

export class History {
  private readonly times: number[] = [];
  private readonly columns: (number | null)[][];

  constructor(
    width: number,
    private readonly capacity: number,
  ) {
    this.columns = Array.from({ length: width }, () => []);
  }

  /** `time` in seconds; one value for each line, null for none. */
  add(time: number, values: readonly (number | null)[]): void {
    this.times.push(time);
    this.columns.forEach((column, index) => column.push(values[index] ?? null));
    if (this.times.length <= this.capacity) return;
    this.times.shift();
    for (const column of this.columns) column.shift();
  }

  /** Go on from what `data` gave, as it was stored; what does not fit is left out. */
  goOnFrom(stored: unknown): void {
    if (!Array.isArray(stored)) return;
    const [times, ...columns] = stored as unknown[];
    if (!Array.isArray(times) || !columns.every(Array.isArray)) return;
    for (const [row, time] of (times as unknown[]).entries())
      if (typeof time === "number" && time >= (this.newest ?? -Infinity))
        this.add(
          time,
          this.columns.map((_, index) => {
            const value = (columns as unknown[][])[index]?.[row];
            return typeof value === "number" ? value : null;
          }),
        );
  }

  get length(): number {
    return this.times.length;
  }

  get newest(): number | undefined {
    return this.times.at(-1);
  }

  /** In the form that uPlot draws. */
  data(): [number[], ...(number | null)[][]] {
    return [this.times.slice(), ...this.columns.map((column) => column.slice())];
  }
}
