import { act } from "react";
import { expect, it } from "vitest";

import type { DownloadStatus } from "@contract";
import { shown } from "../../testing/shown";
import { DownloadCard } from "./DownloadCard";

it("leads from what was cancelled to where it can be chosen again", async () => {
  const download = {
    download_id: "1",
    repo_id: "northwind/Cedar",
    title: "Cedar",
    quant: "",
    status: "cancelled",
    total_bytes: 1,
    downloaded_bytes: 0,
    restarts: 0,
    warnings: [],
  } as unknown as DownloadStatus;
  const { place } = await shown(<DownloadCard download={download} />, () => ({}));
  const again = [...place.querySelectorAll("button")].find((one) => one.textContent === "Choose it again");
  act(() => again?.click());
  expect(location.hash).toBe("#/discover/northwind/Cedar");
});
