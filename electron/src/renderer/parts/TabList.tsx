import * as Tabs from "@radix-ui/react-tabs";

import css from "./parts.module.css";

export function TabList({ label, tabs }: { label: string; tabs: readonly { value: string; label: string }[] }) {
  return (
    <Tabs.List className={css.tabs} aria-label={label}>
      {tabs.map((tab) => (
        <Tabs.Trigger key={tab.value} value={tab.value} className={css.tab}>
          {tab.label}
        </Tabs.Trigger>
      ))}
    </Tabs.List>
  );
}
