-- Every link that we made: a row is on disk before its link is, so that each link in an app's folder is either here or not
-- ours. Columns up to created_at keep the names that older sidecars know; later ones have defaults, so that such a sidecar
-- can still write its rows. Paths below the launcher root are relative to it, with "/"; others are absolute.
CREATE TABLE links (
    link_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    model_id    TEXT NOT NULL,
    source_path TEXT NOT NULL,                  -- the model's file
    target_path TEXT NOT NULL UNIQUE,           -- the link
    link_type   TEXT NOT NULL,                  -- symlink, hardlink or copy
    app_id      TEXT NOT NULL,
    app_version TEXT NOT NULL,                  -- the tag without a leading v
    is_external INTEGER NOT NULL DEFAULT 0,     -- 1: link and file lie on different volumes
    created_at  TEXT NOT NULL,
    state       TEXT NOT NULL DEFAULT 'made',   -- making: the link may be there or not
    link_text   TEXT NOT NULL DEFAULT '',       -- what a symlink holds; '' when nobody wrote it down
    inode       INTEGER NOT NULL DEFAULT 0,     -- of a hard link or copy; 0 when nobody wrote it down
    size        INTEGER NOT NULL DEFAULT 0,     -- of a copy, with mtime_ns: whether it is still ours
    mtime_ns    INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX idx_links_model_id ON links (model_id);
CREATE INDEX idx_links_app ON links (app_id, app_version);
CREATE INDEX idx_links_is_external ON links (is_external);
CREATE INDEX links_making ON links (link_id) WHERE state = 'making';

CREATE TABLE settings (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- Links of models that lie in the trash: made again when the model comes back. The columns are those of `links`.
CREATE TABLE parked (
    trash_id    TEXT NOT NULL,
    model_id    TEXT NOT NULL,
    source_path TEXT NOT NULL,
    target_path TEXT NOT NULL,
    link_type   TEXT NOT NULL,
    app_id      TEXT NOT NULL,
    app_version TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    PRIMARY KEY (trash_id, target_path)
) WITHOUT ROWID;

-- What lay where a link was wanted and was moved aside because the caller chose so. Written before it is moved.
CREATE TABLE replaced (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    target_path TEXT NOT NULL,                  -- where it was
    kept_path   TEXT NOT NULL,                  -- where it is
    model_id    TEXT NOT NULL,
    moved_at    TEXT NOT NULL
);
PRAGMA user_version = 1;
