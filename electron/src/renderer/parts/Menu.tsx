import * as Radix from "@radix-ui/react-dropdown-menu";
import { Ellipsis } from "lucide-react";
import type { ReactNode } from "react";

import { Button } from "./Button";
import css from "./parts.module.css";

export interface MenuItem {
  label: string;
  icon?: ReactNode;
  danger?: boolean;
  disabled?: boolean;
  run: () => void;
}

/** Not modal: Radix's modal menus inject a style element, which the page's CSP refuses. */
export function Menu({ label, items }: { label: string; items: readonly MenuItem[] }) {
  return (
    <Radix.Root modal={false}>
      <Radix.Trigger asChild>
        <Button look="quiet" icon={<Ellipsis aria-hidden />} aria-label={label} />
      </Radix.Trigger>
      <Radix.Portal>
        <Radix.Content className={css.menu} align="end" sideOffset={4}>
          {items.map((item) => (
            <Radix.Item
              key={item.label}
              className={`${css.menuItem} ${item.danger ? css.danger : ""}`}
              disabled={item.disabled ?? false}
              onSelect={item.run}
            >
              {item.icon}
              {item.label}
            </Radix.Item>
          ))}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}
