import type { ReactNode } from "react";

import { useClient } from "../client/hooks";
import { useAct } from "./useAct";

/** A page of the web. The desktop shell lets no window open, so the sidecar opens the user's browser there. */
export function ExternalLink({ href, children }: { href: string; children: ReactNode }) {
  const client = useClient();
  const act = useAct();
  return (
    <a
      href={href}
      target="_blank"
      rel="noreferrer noopener"
      onClick={(event) => {
        if (window.pumas === undefined) return;
        event.preventDefault();
        act(() => client.call("open_url", { url: href }));
      }}
    >
      {children}
    </a>
  );
}
