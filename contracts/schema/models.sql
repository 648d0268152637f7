-- The library's index: a cache of the metadata.json files, made again from them at any time.
-- Columns up to updated_at keep the names and meaning that older sidecars know; later ones have defaults, so that an
-- older sidecar that finds this file can still write its rows. Times are ISO-8601 UTC with microseconds and "Z".
CREATE TABLE models (
    id                TEXT NOT NULL UNIQUE,         -- the model's folder, relative to the library, with "/"
    path              TEXT NOT NULL,                -- the same
    cleaned_name      TEXT NOT NULL,
    official_name     TEXT NOT NULL,
    model_type        TEXT NOT NULL,
    tags_json         TEXT NOT NULL,
    hashes_json       TEXT NOT NULL,
    metadata_json     TEXT NOT NULL,                -- "{}" for a folder without metadata, or with more than 64 KiB of it
    updated_at        TEXT NOT NULL,
    subtype           TEXT NOT NULL DEFAULT '',
    family            TEXT NOT NULL DEFAULT '',
    tags              TEXT NOT NULL DEFAULT '',     -- and their folded words where those differ, for search
    description       TEXT NOT NULL DEFAULT '',
    kinds             TEXT NOT NULL DEFAULT '',     -- subtype, file formats and quantisations, for search
    facets            TEXT NOT NULL DEFAULT '',     -- what can be filtered by, as words that no query can contain
    other_names       TEXT NOT NULL DEFAULT '',     -- words that lead to the model and that no other column has
    name_key          TEXT NOT NULL DEFAULT '',     -- the official name's words, folded
    added_date        TEXT,
    last_used         TEXT,
    size_bytes        INTEGER,
    primary_file      TEXT NOT NULL DEFAULT '',     -- the largest model file, relative to the model's folder
    primary_size      INTEGER,
    sha256            TEXT NOT NULL DEFAULT '',     -- of the primary file; "" when nobody hashed it
    repo_id           TEXT NOT NULL DEFAULT '',
    security_tier     TEXT NOT NULL DEFAULT 'unknown',
    related_available INTEGER NOT NULL DEFAULT 0,
    pending_lookup    INTEGER NOT NULL DEFAULT 0,
    derived           INTEGER NOT NULL DEFAULT 0,   -- 1: a folder without metadata, known by its files alone
    storage           TEXT NOT NULL DEFAULT 'owned', -- owned, hardlink, reflink or reference: see library/references.py
    state             TEXT NOT NULL DEFAULT 'ok',   -- ok, missing or offline; only of a reference it is ever not ok
    -- Twelve digits tell a million models apart, and an index of them is a fifth as large.
    digest_key        TEXT AS (substr(sha256, 1, 12)),
    row               INTEGER PRIMARY KEY
);
CREATE INDEX models_newest ON models (updated_at DESC, row DESC);
-- Only short names can equal a query that many models match.
CREATE INDEX models_by_short_name ON models (name_key) WHERE length(name_key) <= 32;
CREATE INDEX models_by_digest ON models (digest_key) WHERE sha256 <> '';
-- With the size of the whole model, so that all of them are counted and added up without reading their rows.
CREATE INDEX models_by_primary_size ON models (primary_size, size_bytes);
CREATE INDEX models_pending ON models (pending_lookup) WHERE pending_lookup = 1;
CREATE INDEX models_by_reference ON models (row) WHERE storage = 'reference';

-- Prefix search over the text columns of `models`. Columns, not positions, are kept (`detail=column`): every query term
-- is one token, and ranking asks in which column it stands. https://www.sqlite.org/fts5.html Longer beginnings are few
-- enough to be looked up in the words themselves: an index of theirs costs a sixth of writing a model and saves 1 ms.
CREATE VIRTUAL TABLE model_search USING fts5 (
    official_name, other_names, model_type, tags, family, description, kinds, facets,
    content = 'models', content_rowid = 'row',
    tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2 3', detail = column, columnsize = 0
);
-- Segments are merged when there are as many as `crisismerge` says: later while many models are added, see store.py.
INSERT INTO model_search (model_search, rank) VALUES ('automerge', 0);
-- Bytes of postings kept in memory before they become a segment; a batch of a thousand models has about so many.
INSERT INTO model_search (model_search, rank) VALUES ('hashsize', 4194304);
-- FTS5 writes what it holds at each statement's savepoint, so a batch adds its new rows by one statement at its end: rows
-- beyond `searchable` are none of the triggers' business.
CREATE TRIGGER model_search_ai AFTER INSERT ON models WHEN new.row <= (SELECT searchable FROM library_state) BEGIN
    INSERT INTO model_search
        (rowid, official_name, other_names, model_type, tags, family, description, kinds, facets)
    VALUES (new.row, new.official_name, new.other_names, new.model_type, new.tags, new.family,
            new.description, new.kinds, new.facets);
END;
CREATE TRIGGER model_search_ad AFTER DELETE ON models WHEN old.row <= (SELECT searchable FROM library_state) BEGIN
    INSERT INTO model_search (model_search,
        rowid, official_name, other_names, model_type, tags, family, description, kinds, facets)
    VALUES ('delete', old.row, old.official_name, old.other_names, old.model_type, old.tags, old.family,
            old.description, old.kinds, old.facets);
END;
CREATE TRIGGER model_search_au AFTER UPDATE ON models WHEN old.row <= (SELECT searchable FROM library_state) BEGIN
    INSERT INTO model_search (model_search,
        rowid, official_name, other_names, model_type, tags, family, description, kinds, facets)
    VALUES ('delete', old.row, old.official_name, old.other_names, old.model_type, old.tags, old.family,
            old.description, old.kinds, old.facets);
    INSERT INTO model_search
        (rowid, official_name, other_names, model_type, tags, family, description, kinds, facets)
    VALUES (new.row, new.official_name, new.other_names, new.model_type, new.tags, new.family,
            new.description, new.kinds, new.facets);
END;

-- What each folder looked like when it was last read. A row is there before, and settled after, those of all below it.
CREATE TABLE folders (
    parent           TEXT NOT NULL,                 -- relative to the library; "" is the library itself
    name             TEXT NOT NULL,                 -- "" for the library itself, whose parent is "/"
    mtime_ns         INTEGER NOT NULL,
    inode            INTEGER NOT NULL,
    settled          INTEGER NOT NULL,              -- 0: changed so shortly before that the stamp proves nothing
    is_model         INTEGER NOT NULL,
    inside           INTEGER NOT NULL,              -- 1: a folder above it is a model
    has_children     INTEGER NOT NULL,
    witness          TEXT NOT NULL,                 -- the file whose stamp follows: metadata.json or the primary file
    witness_mtime_ns INTEGER NOT NULL,
    witness_size     INTEGER NOT NULL,
    witness_inode    INTEGER NOT NULL,
    PRIMARY KEY (parent, name)
) WITHOUT ROWID;
CREATE INDEX folders_above_models ON folders (parent, name) WHERE is_model = 0 AND inside = 0;

-- What could not be read, so that it is still listed after a restart although the folder is not read again.
CREATE TABLE troubles (
    folder  TEXT NOT NULL,
    subject TEXT NOT NULL,
    kind    TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (folder, subject)
) WITHOUT ROWID;

CREATE TABLE library_state (
    only         INTEGER PRIMARY KEY CHECK (only = 1),
    revision     INTEGER NOT NULL,                  -- grows with every batch that changed a model
    root_device  INTEGER NOT NULL,
    root_inode   INTEGER NOT NULL,
    last_scan    TEXT,
    searchable   INTEGER NOT NULL DEFAULT 9223372036854775807 -- rows beyond it are not in model_search yet
);
-- A new index begins at a revision that no earlier one had, so that nothing remembered of that one fits this.
INSERT INTO library_state
VALUES (1, CAST(strftime('%s', 'now') AS INTEGER) * 1000000 + abs(random() % 1000000), 0, 0, NULL, 9223372036854775807);
PRAGMA user_version = 10;
