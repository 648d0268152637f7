// What the page listens to on `/events`: groups of topics. The desktop shell follows the same for it.

export const TOPICS = [
  "job",
  "model",
  "library",
  "download",
  "install",
  "version",
  "links",
  "releases",
  "process",
  "network",
];

/** The load of the machine costs the sidecar some work, so it is followed only while somebody looks. */
export const LOAD_TOPIC = "system";
