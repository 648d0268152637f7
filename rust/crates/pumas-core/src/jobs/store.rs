//! Jobs as rows of one SQLite table. What a job means is known to the domain that runs it.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Layout;
use crate::contracts::schema;
use crate::error::{Error, Result};
use crate::storage::clock;
use crate::storage::database::{Content, Database, Schema, Synchronous};
use crate::storage::troubles::Troubles;

/// Of the jobs that have ended the newest are kept.
pub const KEEP_FINISHED: i64 = 1000;

/// Where a job stands.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Accepted; others of its kind are before it.
    Queued,
    /// Under way.
    Running,
    /// Stopped, to be resumed.
    Paused,
    /// Done.
    Completed,
    /// Ended by an error; it may be tried again.
    Failed,
    /// Stopped for good.
    Cancelled,
}

impl JobState {
    const ALL: [Self; 6] = [
        Self::Queued,
        Self::Running,
        Self::Paused,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// As it stands in the table and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the job has ended.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl std::fmt::Display for JobState {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.as_str())
    }
}

/// One piece of long work.
///
/// `done` of `total` (0 when unknown) in `unit`; `stage` and `item` say what it is at; `error` and `error_code` are set for
/// failed jobs, and for a paused job that stopped by itself (`interrupted`). The checkpoint belongs to the runner.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the words say it")]
pub struct Job {
    pub id: String,
    pub kind: String,
    pub title: String,
    pub state: JobState,
    pub stage: String,
    pub item: String,
    pub unit: String,
    pub done: i64,
    pub total: i64,
    pub error: Option<String>,
    pub error_code: Option<String>,
    pub params: Value,
    pub checkpoint: Value,
    pub result: Option<Value>,
    pub created_at: String,
    pub updated_at: String,
    pub finished_at: Option<String>,
}

impl Job {
    /// A job that nobody has begun.
    #[must_use]
    pub fn new(id: String, kind: &str, title: &str, params: Value) -> Self {
        let moment = clock::now();
        Self {
            id,
            kind: kind.into(),
            title: title.into(),
            state: JobState::Queued,
            stage: String::new(),
            item: String::new(),
            unit: "bytes".into(),
            done: 0,
            total: 0,
            error: None,
            error_code: None,
            params,
            checkpoint: Value::Object(serde_json::Map::new()),
            result: None,
            created_at: moment.clone(),
            updated_at: moment,
            finished_at: None,
        }
    }

    /// 0.0 to 1.0.
    #[must_use]
    pub fn progress(&self) -> f64 {
        match (self.state, self.total) {
            (JobState::Completed, _) => 1.0,
            (_, ..=0) => 0.0,
            (_, total) => (self.done.max(0) as f64 / total as f64).min(1.0),
        }
    }
}

const COLUMNS: &str = "id, kind, title, state, stage, item, unit, done, total, error, error_code, params_json, \
                       state_json, result_json, created_at, updated_at, finished_at";

/// A job keeps its row for life. By the time of creation new jobs would be the oldest after the clock was set back.
const NEWEST_FIRST: &str = "rowid DESC";

/// The table of a launcher root.
#[derive(Clone)]
pub struct JobStore {
    database: Database,
}

impl JobStore {
    /// The table in `jobs.db`. A damaged one begins anew, and the trouble is told.
    pub fn new(layout: &Layout, troubles: Arc<Troubles>) -> Result<Self> {
        let told = move |kept: &Path, reason: &str| {
            let kept = kept.file_name().unwrap_or_default().to_string_lossy();
            let sentence = format!("The list of jobs was damaged ({reason}) and begins anew; see {kept}.");
            troubles.report("jobs.db", "damaged_database", &sentence);
        };
        let schema = Schema::new(schema::JOBS)?;
        let database = Database::new(
            layout.jobs_db(),
            schema,
            Content::Kept,
            Synchronous::Full,
            Box::new(told),
        );
        Ok(Self { database })
    }

    /// Close the file. Calls that are under way still find it.
    pub fn close_sync(&self) {
        self.database.close_sync();
    }

    pub(super) async fn save(&self, job: Job) -> Result<()> {
        self.database.write(move |c| save(c, &job)).await
    }

    pub(super) fn save_sync(&self, job: &Job) -> Result<()> {
        self.database.write_sync(|c| save(c, job))
    }

    pub(super) async fn get(&self, job_id: &str) -> Result<Option<Job>> {
        let id = job_id.to_owned();
        let query = move |c: &Connection| {
            let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?");
            c.prepare_cached(&sql)?
                .query_row([id], |row| Ok(read(row)))
                .optional()
        };
        match self.database.read(None, query).await? {
            Some(Some(job)) => Ok(Some(job)),
            None => Ok(None),
            Some(None) => {
                let reason = "its row in jobs.db is damaged".into();
                Err(Error::CorruptState {
                    name: job_id.into(),
                    reason,
                })
            }
        }
    }

    /// Newest first. One damaged row does not hide the others. `also` are ids of those to be listed whatever their state is
    /// here.
    pub(super) async fn list(
        &self,
        kind: Option<String>,
        states: Vec<JobState>,
        also: Vec<String>,
        limit: u32,
        offset: u32,
    ) -> Result<Vec<Job>> {
        let query = move |c: &Connection| {
            let mut wanted: Vec<rusqlite::types::Value> = Vec::new();
            let mut conditions = String::from("1");
            if let Some(kind) = kind {
                conditions.push_str(" AND kind = ?");
                wanted.push(kind.into());
            }
            if !states.is_empty() {
                let places = |count| vec!["?"; count].join(", ");
                let (of_state, by_id) = (places(states.len()), places(also.len()));
                conditions = format!("{conditions} AND (state IN ({of_state}) OR id IN ({by_id}))");
                wanted.extend(states.iter().map(|state| state.as_str().to_owned().into()));
                wanted.extend(also.into_iter().map(Into::into));
            }
            wanted.extend([i64::from(limit).into(), i64::from(offset).into()]);
            let sql = format!(
                "SELECT {COLUMNS} FROM jobs WHERE {conditions} ORDER BY {NEWEST_FIRST} LIMIT ? OFFSET ?"
            );
            let mut statement = c.prepare(&sql)?;
            let rows = statement.query_map(params_from_iter(wanted), |row| Ok(read(row)))?;
            Ok(rows
                .collect::<rusqlite::Result<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect())
        };
        self.database.read(None, query).await
    }

    /// Pause what a dead process left running or queued; returns how many. The rest of each row stays.
    pub(super) async fn park_unfinished(&self, reason: &'static str, code: &'static str) -> Result<usize> {
        let change = move |c: &Connection| {
            c.execute(
                "UPDATE jobs SET state = 'paused', error = ?, error_code = ?, updated_at = ? \
                 WHERE state IN ('running', 'queued')",
                params![reason, code, clock::now()],
            )
        };
        self.database.write(change).await
    }
}

static SAVE: LazyLock<String> = LazyLock::new(|| {
    let places = vec!["?"; 17].join(", ");
    let updated = COLUMNS.split(", ").skip(1);
    let updated: Vec<_> = updated.map(|name| format!("{name} = excluded.{name}")).collect();
    let updated = updated.join(", ");
    format!("INSERT INTO jobs ({COLUMNS}) VALUES ({places}) ON CONFLICT (id) DO UPDATE SET {updated}")
});

fn save(c: &Connection, job: &Job) -> rusqlite::Result<()> {
    c.prepare_cached(&SAVE)?.execute(params![
        job.id,
        job.kind,
        job.title,
        job.state.as_str(),
        job.stage,
        job.item,
        job.unit,
        job.done,
        job.total,
        job.error,
        job.error_code,
        job.params.to_string(),
        job.checkpoint.to_string(),
        job.result.as_ref().map(Value::to_string),
        job.created_at,
        job.updated_at,
        job.finished_at,
    ])?;
    if job.state.is_final() {
        let sql = format!(
            "DELETE FROM jobs WHERE state IN ('completed', 'failed', 'cancelled') AND id NOT IN \
             (SELECT id FROM jobs WHERE state IN ('completed', 'failed', 'cancelled') \
             ORDER BY {NEWEST_FIRST} LIMIT ?)"
        );
        c.execute(&sql, [KEEP_FINISHED])?;
    }
    Ok(())
}

/// None when the row is damaged.
fn read(row: &Row<'_>) -> Option<Job> {
    let job = try_read(row);
    if job.is_none() {
        let id: String = row.get(0).unwrap_or_default();
        tracing::warn!("a job's row cannot be read: {}", crate::text::quoted(&id, 100));
    }
    job
}

fn try_read(row: &Row<'_>) -> Option<Job> {
    let json = |text: String| serde_json::from_str::<Value>(&text).ok();
    Some(Job {
        id: row.get(0).ok()?,
        kind: row.get(1).ok()?,
        title: row.get(2).ok()?,
        state: JobState::read(&row.get::<_, String>(3).ok()?)?,
        stage: row.get(4).ok()?,
        item: row.get(5).ok()?,
        unit: row.get(6).ok()?,
        done: row.get(7).ok()?,
        total: row.get(8).ok()?,
        error: row.get(9).ok()?,
        error_code: row.get(10).ok()?,
        params: json(row.get(11).ok()?)?,
        checkpoint: json(row.get(12).ok()?)?,
        result: match row.get::<_, Option<String>>(13).ok()? {
            Some(text) => Some(json(text)?),
            None => None,
        },
        created_at: row.get(14).ok()?,
        updated_at: row.get(15).ok()?,
        finished_at: row.get(16).ok()?,
    })
}
