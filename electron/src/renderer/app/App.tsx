import { QueryClientProvider } from "@tanstack/react-query";
import { useEffect, useMemo } from "react";

import type { Client } from "../client/client";
import { ClientContext } from "../client/hooks";
import { TextsContext } from "../texts/texts";
import { Shell } from "./Shell";
import { useLanguage } from "./language";

export function App({ client }: { client: Client }) {
  const texts = useLanguage();
  useEffect(() => client.start(), [client]);
  return useMemo(
    () => (
      <ClientContext value={client}>
        <QueryClientProvider client={client.queries}>
          <TextsContext value={texts}>
            <Shell />
          </TextsContext>
        </QueryClientProvider>
      </ClientContext>
    ),
    [client, texts],
  );
}
