-- Models that were taken in from other programs' stores without copying, so that it can be undone. The model's own
-- metadata.json says the same of it; a row is there before the model is, and outlives it.
CREATE TABLE adoptions (
    id           TEXT PRIMARY KEY,
    state        TEXT NOT NULL CHECK (state IN ('begun', 'adopted', 'undoing', 'undone')),
    model_id     TEXT NOT NULL,
    mode         TEXT NOT NULL,                  -- hardlink, reflink or reference
    kind         TEXT NOT NULL,                  -- of the store
    store        TEXT NOT NULL,                  -- absolute path
    name         TEXT NOT NULL,                  -- of the model in the store
    revision     TEXT,
    size         INTEGER NOT NULL,               -- bytes that were not copied
    job_id       TEXT NOT NULL,
    item         INTEGER NOT NULL,               -- which of the job's items
    result_json  TEXT NOT NULL,
    trash_id     TEXT,                           -- where an undone model was left, when it was not removed for good
    created_at   TEXT NOT NULL,
    updated_at   TEXT NOT NULL
);
CREATE INDEX adoptions_by_model ON adoptions (model_id);
CREATE INDEX adoptions_by_job ON adoptions (job_id, item);
CREATE INDEX adoptions_by_creation ON adoptions (created_at);
PRAGMA user_version = 1;
