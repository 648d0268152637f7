import { useClient } from "../../client/hooks";
import { ended } from "../../client/ended";
import { go } from "../../lib/route";
import { notify } from "../../parts/notices";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import { verdict } from "./verdict";

/** Hash the files of all models again; what came of it is said when it is there, wherever a person is by then. */
export function useVerifyAll(): () => void {
  const { t, heard } = useTexts();
  const client = useClient();
  const act = useAct();
  return () =>
    act(async () => {
      const { job_id } = await client.change("verify_library", {});
      const action = { label: t("nav.monitor"), run: () => go("monitor") };
      notify({ tone: "good", text: t("library.verifying"), action });
      const job = await ended(client, job_id);
      if (job.state === "cancelled") return;
      const { bad, text } = verdict(job, t, heard);
      notify({ tone: bad ? "bad" : "good", text });
    });
}
