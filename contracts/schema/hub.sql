-- What the hub answered, and digests of files that were compared with it: a cache that can be deleted at any time.
CREATE TABLE answers (
    key        TEXT PRIMARY KEY,               -- what was asked
    fetched_at REAL NOT NULL,                  -- seconds since 1970
    body       BLOB NOT NULL                   -- JSON, deflated
);
CREATE INDEX answers_by_age ON answers (fetched_at);

-- SHA-256 of files outside the library, for as long as the file is the one that was hashed.
CREATE TABLE digests (
    device     INTEGER NOT NULL,
    inode      INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    mtime_ns   INTEGER NOT NULL,
    sha256     TEXT NOT NULL,
    hashed_at  REAL NOT NULL,
    PRIMARY KEY (device, inode)
);
CREATE INDEX digests_by_age ON digests (hashed_at);
PRAGMA user_version = 1;
