//! What the link registry holds: links, those that went with a model, and what was moved aside for them.

use rusqlite::Row;

use crate::links::linking::LinkKind;
use crate::storage::clock::now;

/// One row, in the order of the columns of `contracts/schema/link_registry.sql`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Link {
    /// 0 for one that was not written yet.
    pub link_id: i64,
    /// Whose file it is.
    pub model_id: String,
    /// The model's file, in the stored form.
    pub source_path: String,
    /// The link, in the stored form.
    pub target_path: String,
    /// See [`Link::kind`].
    pub link_type: String,
    /// The app.
    pub app_id: String,
    /// The tag without a leading v.
    pub app_version: String,
    /// Link and file lie on different volumes.
    pub is_external: bool,
    /// ISO-8601 UTC.
    pub created_at: String,
    /// What a symlink holds.
    pub link_text: String,
    /// Of a hard link or a copy.
    pub inode: i64,
    /// Bytes of a copy.
    pub size: i64,
    /// Nanoseconds since 1970, of a copy.
    pub mtime_ns: i64,
}

impl Link {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> LinkKind {
        LinkKind::of(&self.link_type)
    }

    /// Of the columns in their order.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            link_id: row.get(0)?,
            model_id: row.get(1)?,
            source_path: row.get(2)?,
            target_path: row.get(3)?,
            link_type: row.get(4)?,
            app_id: row.get(5)?,
            app_version: row.get(6)?,
            is_external: row.get::<_, i64>(7)? != 0,
            created_at: row.get(8)?,
            link_text: row.get(10)?,
            inode: row.get(11)?,
            size: row.get(12)?,
            mtime_ns: row.get(13)?,
        })
    }
}

/// A link that went with its model: a row of `parked`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The trash's entry.
    pub trash_id: String,
    /// Whose file it was.
    pub model_id: String,
    /// As in [`Link`].
    pub source_path: String,
    /// As in [`Link`].
    pub target_path: String,
    /// As in [`Link`].
    pub link_type: String,
    /// As in [`Link`].
    pub app_id: String,
    /// As in [`Link`].
    pub app_version: String,
    /// As in [`Link`].
    pub created_at: String,
}

impl Parked {
    /// Of the columns in their order.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            trash_id: row.get(0)?,
            model_id: row.get(1)?,
            source_path: row.get(2)?,
            target_path: row.get(3)?,
            link_type: row.get(4)?,
            app_id: row.get(5)?,
            app_version: row.get(6)?,
            created_at: row.get(7)?,
        })
    }
}

/// Something that was moved aside for a link; paths in the stored form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Where it was.
    pub target_path: String,
    /// Where it is.
    pub kept_path: String,
    /// For whose link.
    pub model_id: String,
    /// ISO-8601 UTC.
    pub moved_at: String,
}

/// A row that was not written yet; paths in the stored form.
#[must_use]
pub fn new_link(
    model_id: &str,
    source: String,
    target: String,
    link_type: &str,
    (app_id, app_version): (&str, &str),
    external: bool,
) -> Link {
    Link {
        link_id: 0,
        model_id: model_id.to_owned(),
        source_path: source,
        target_path: target,
        link_type: link_type.to_owned(),
        app_id: app_id.to_owned(),
        app_version: app_version.to_owned(),
        is_external: external,
        created_at: now(),
        link_text: String::new(),
        inode: 0,
        size: 0,
        mtime_ns: 0,
    }
}
