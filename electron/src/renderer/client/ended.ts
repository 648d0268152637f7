// The end of a job that nobody looks at: whoever started it may be gone from the page by then.
import type { JobInfo } from "@contract";
import type { Client } from "./client";
import { asCallError } from "./errors";

const ENDED: ReadonlySet<JobInfo["state"]> = new Set(["completed", "failed", "cancelled"]);

/** What became of a job, once it has ended. Raises `CallError`; a sidecar that is gone meanwhile is waited for. */
export function ended(client: Client, jobId: string): Promise<JobInfo> {
  return new Promise((resolve, reject) => {
    const look = () => {
      client.call("get_job", { job_id: jobId }).then(
        ({ job }) => {
          if (!ENDED.has(job.state)) return;
          stop();
          resolve(job);
        },
        (reason: unknown) => {
          const error = asCallError(reason);
          if (error.kind === "unreachable") return;
          stop();
          reject(error);
        },
      );
    };
    const stop = client.on("job.state", ({ data }) => {
      if (data.job_id === jobId) look();
    });
    look(); // it may have ended before anybody listened
  });
}
