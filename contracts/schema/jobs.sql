-- Long work with an id. Times are ISO-8601 UTC with microseconds and "Z"; progress counts are in `unit`.
CREATE TABLE jobs (
    id           TEXT PRIMARY KEY,
    kind         TEXT NOT NULL,
    title        TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('queued', 'running', 'paused', 'completed', 'failed', 'cancelled')),
    stage        TEXT NOT NULL DEFAULT '',
    item         TEXT NOT NULL DEFAULT '',
    unit         TEXT NOT NULL DEFAULT 'bytes',
    done         INTEGER NOT NULL DEFAULT 0,
    total        INTEGER NOT NULL DEFAULT 0,
    error        TEXT,
    error_code   TEXT,
    params_json  TEXT NOT NULL,
    state_json   TEXT NOT NULL DEFAULT '{}',
    result_json  TEXT,
    created_at   TEXT NOT NULL,
    updated_at   TEXT NOT NULL,
    finished_at  TEXT
);
CREATE INDEX jobs_by_creation ON jobs (created_at);
CREATE INDEX jobs_by_state ON jobs (state);
PRAGMA user_version = 1;
