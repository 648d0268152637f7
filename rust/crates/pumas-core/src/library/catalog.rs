//! The index as the rest of the program uses it: always there, as fresh as a cheap look can make it, never in the way.
//!
//! The first use after a start waits for the first look at the disk, but not for long; later uses look at the few folders
//! above the models at most once a second and start a full look in the background now and then. Nothing runs while nobody
//! asks. [`LibraryIndex`] is the same for worker threads.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::watch;

use crate::blocking::blocking;
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::events::EventStream;
use crate::library::facets::{FacetCounts, UsedBy};
use crate::library::library_index::{LibraryIndex, LibraryState};
use crate::library::listing::Listing;
use crate::library::reconcile::Summary;
use crate::library::search::{DEADLINE, Filters, Hit, Page, SORTED_DEADLINE, Searcher, Sort, one, terms};
use crate::library::store::{self, Totals};
use crate::storage::database::DAMAGED_FILES;
use crate::storage::locked;
use crate::storage::troubles::Troubles;

const FIRST_WAIT: Duration = Duration::from_secs(8);
const CHANGED_WAIT: Duration = Duration::from_millis(500);
const SHALLOW_EVERY: Duration = Duration::from_secs(1);
const FULL_EVERY: Duration = Duration::from_secs(10);
/// A full look at a huge library may take at most one part in so many of one processor.
const FULL_SHARE: u32 = 20;
/// A question waits so long for what makes it fast and is being read; then the index answers.
const LEARNING_WAIT: Duration = Duration::from_millis(300);
/// A library that keeps changing may have its words read anew for at most one part in so many of one processor.
const LEARNING_SHARE: u32 = 10;
/// Counting all models of a huge library by everything takes most of a second on a slow machine.
const FACETS_DEADLINE: Duration = Duration::from_secs(9);

/// How the library is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// A look at the disk is under way.
    pub indexing: bool,
    /// Models.
    pub model_count: i64,
    /// Models that wait for an online look-up.
    pub pending_lookups: i64,
    /// When a look was last finished, ISO-8601 UTC.
    pub last_scan: Option<String>,
    /// Whether it can be read and written.
    pub state: LibraryState,
}

/// Counts, and the bytes of all models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageScan {
    /// Models.
    pub models: i64,
    /// Files in the folder of workflows.
    pub workflows: usize,
    /// Folders in the cache of custom nodes.
    pub custom_nodes: usize,
    /// Bytes.
    pub total_size: i64,
}

#[derive(Debug, Clone)]
struct Known {
    revision: i64,
    totals: Totals,
    last_scan: Option<String>,
}

type Outcome = Result<Option<Summary>>;
type Look = watch::Receiver<Option<Outcome>>;

#[derive(Default)]
struct Looking {
    running: Option<Look>,
    shallow_at: Option<Instant>,
    full_at: Option<Instant>,
    full_took: Duration,
}

/// Reading what helps searches: `running` ends when its sender does.
#[derive(Default)]
struct Learning {
    running: Option<watch::Receiver<()>>,
    ended: Option<Instant>,
    took: Duration,
}

/// Counts of all models, with the revision and the links that they are of.
struct Counted {
    question: (i64, UsedBy),
    counts: Arc<FacetCounts>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    shared: Arc<Shared>,
}

struct Shared {
    index: Arc<LibraryIndex>,
    layout: Arc<Layout>,
    searcher: Searcher,
    looking: Mutex<Looking>,
    learning: Mutex<Learning>,
    known: Mutex<Option<Known>>,
    facets: Mutex<Option<Counted>>,
    models: tokio::sync::Mutex<Option<Listing>>,
}

impl Catalog {
    /// Nothing is opened before the first use.
    #[must_use]
    pub fn new(layout: Arc<Layout>, events: EventStream, troubles: Arc<Troubles>) -> Self {
        Self::with_searcher(layout, events, troubles, Searcher::default())
    }

    fn with_searcher(
        layout: Arc<Layout>,
        events: EventStream,
        troubles: Arc<Troubles>,
        searcher: Searcher,
    ) -> Self {
        let index = LibraryIndex::new(Arc::clone(&layout), events, troubles);
        let shared = Shared {
            index: Arc::new(index),
            layout,
            searcher,
            looking: Mutex::default(),
            learning: Mutex::default(),
            known: Mutex::default(),
            facets: Mutex::default(),
            models: tokio::sync::Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The index for worker threads.
    #[must_use]
    pub fn index(&self) -> Arc<LibraryIndex> {
        Arc::clone(&self.shared.index)
    }

    /// Stops a look that is under way, and closes the file.
    pub async fn close(&self) {
        let index = self.index();
        let _ = blocking(move || {
            index.close();
            Ok(())
        })
        .await;
    }

    // -- calls -------------------------------------------------------------------------------------------------------

    /// Looks at the whole library now. None when it takes longer than a call may (it goes on), or is away.
    ///
    /// # Errors
    /// The index cannot be written.
    pub async fn reconcile(&self) -> Outcome {
        let end = tokio::time::Instant::now() + FIRST_WAIT;
        let running = locked(&self.shared.looking).running.clone();
        if let Some(running) = running {
            // One that is under way may have passed what the caller just changed.
            let _ = tokio::time::timeout_at(end, ended(running)).await;
        }
        let look = self.start();
        tokio::time::timeout_at(end, ended(look))
            .await
            .unwrap_or(Ok(None))
    }

    /// Finds models, see [`Searcher::search`].
    ///
    /// # Errors
    /// `TimedOut` after one second, in another order than the best first after nine.
    pub async fn search(
        &self,
        text: String,
        filters: Filters,
        limit: Option<i64>,
        offset: i64,
        sort: Sort,
    ) -> Result<Page> {
        self.fresh().await?;
        self.learned().await;
        let shared = Arc::clone(&self.shared);
        let query = move |c: &Connection| shared.searcher.search(c, &text, &filters, limit, offset, sort);
        let deadline = if sort == Sort::Relevance {
            DEADLINE
        } else {
            SORTED_DEADLINE
        };
        let page = self.read(Some(deadline), query).await;
        self.learn();
        page
    }

    /// All models, as the text of a reply.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn listing(&self) -> Result<Listing> {
        self.fresh().await?;
        let revision = self.current().await?.revision;
        let mut models = self.shared.models.lock().await;
        if let Some(listing) = models.as_ref().filter(|listing| listing.revision() == revision) {
            return Ok(listing.clone());
        }
        // Two lists at once would be one too many.
        *models = None;
        Ok(models.insert(self.read(None, Listing::read).await??).clone())
    }

    /// Counts what [`Self::search`] finds by what can be filtered; of all models, it is remembered until they change.
    ///
    /// # Errors
    /// The index cannot be read; `TimedOut`.
    pub async fn facets(&self, text: String, filters: Filters, used_by: UsedBy) -> Result<Arc<FacetCounts>> {
        self.fresh().await?;
        let whole = terms(&text).is_empty() && filters == Filters::default();
        let question = (self.current().await?.revision, used_by.clone());
        if whole
            && let Some(known) = locked(&self.shared.facets).as_ref()
            && known.question == question
        {
            return Ok(Arc::clone(&known.counts));
        }
        self.learned().await;
        let shared = Arc::clone(&self.shared);
        let query = move |c: &Connection| shared.searcher.facets(c, &text, &filters, &used_by);
        let counts = self.read(Some(FACETS_DEADLINE), query).await;
        self.learn();
        let counts = Arc::new(counts?);
        if whole {
            *locked(&self.shared.facets) = Some(Counted {
                question,
                counts: Arc::clone(&counts),
            });
        }
        Ok(counts)
    }

    /// Counts models, workflows and bytes. Made to be polled.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn storage_scan(&self) -> Result<StorageScan> {
        self.fresh().await?;
        let totals = self.current().await?.totals;
        let layout = Arc::clone(&self.shared.layout);
        blocking(move || {
            Ok(StorageScan {
                models: totals.models,
                workflows: count(&layout.workflows(), Path::is_file),
                custom_nodes: count(
                    &layout.root().join("shared-resources/custom_nodes_cache"),
                    Path::is_dir,
                ),
                total_size: totals.size,
            })
        })
        .await
    }

    /// How the library is. Never waits for a look at the disk, but starts one when it is due.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn status(&self) -> Result<Status> {
        self.keep_fresh(false).await?;
        // Asked first: a look that ends meanwhile may not lend its "done" to the count from before.
        let index = &self.shared.index;
        let indexing = index.is_busy() || !index.is_complete();
        let known = self.current().await?;
        Ok(Status {
            indexing,
            model_count: known.totals.models,
            pending_lookups: known.totals.pending,
            last_scan: known.last_scan,
            state: index.state(),
        })
    }

    /// One model by its id.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn get(&self, model_id: String) -> Result<Option<Hit>> {
        self.fresh().await?;
        self.read(None, move |c| one(c, &model_id)).await
    }

    /// Models whose primary file has this digest (hex).
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn find_by_sha256(&self, digest: &str) -> Result<Vec<String>> {
        self.fresh().await?;
        let digest = digest.to_ascii_lowercase();
        self.read(None, move |c| store::ids_by_sha256(c, &digest)).await
    }

    /// Id and hub repository (`owner/name`) of each model that is known to be from one.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn from_hub(&self) -> Result<Vec<(String, String)>> {
        self.fresh().await?;
        self.read(None, store::from_hub).await
    }

    // -- freshness ---------------------------------------------------------------------------------------------------

    /// Waits as any question about models does: for the first look, and shortly for one that is due.
    ///
    /// # Errors
    /// There is no index in any place.
    pub async fn fresh(&self) -> Result<()> {
        self.keep_fresh(true).await
    }

    async fn keep_fresh(&self, wait: bool) -> Result<()> {
        let index = &self.shared.index;
        if !index.is_complete() {
            let look = self.start();
            if wait
                && let Ok(Err(error)) = tokio::time::timeout(FIRST_WAIT, ended(look)).await
                && !index.is_complete()
            {
                // No index in any place: the failure is the answer.
                return Err(error);
            }
            return Ok(());
        }
        if !self.shallow_is_due() {
            return Ok(());
        }
        let asked = self.index();
        if blocking(move || Ok(asked.shallow_changed())).await? {
            let look = self.start();
            if wait {
                let _ = tokio::time::timeout(CHANGED_WAIT, ended(look)).await;
            }
        } else if self.full_is_due() {
            self.start();
        }
        Ok(())
    }

    fn shallow_is_due(&self) -> bool {
        let mut looking = locked(&self.shared.looking);
        let is_due =
            looking.running.is_none() && looking.shallow_at.is_none_or(|at| at.elapsed() >= SHALLOW_EVERY);
        if is_due {
            looking.shallow_at = Some(Instant::now());
        }
        is_due
    }

    fn full_is_due(&self) -> bool {
        let looking = locked(&self.shared.looking);
        let pause = FULL_EVERY.max(looking.full_took * FULL_SHARE);
        looking.full_at.is_none_or(|at| at.elapsed() >= pause)
    }

    /// The look that is under way, or a new one.
    fn start(&self) -> Look {
        let mut looking = locked(&self.shared.looking);
        if let Some(running) = &looking.running {
            return running.clone();
        }
        let (told, look) = watch::channel(None);
        looking.running = Some(look.clone());
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let started = Instant::now();
            let index = Arc::clone(&shared.index);
            let outcome = blocking(move || index.reconcile()).await;
            if let Err(error) = &outcome {
                tracing::warn!("the library's index could not be brought up to date: {error}");
            }
            {
                let mut looking = locked(&shared.looking);
                let now = Instant::now();
                looking.running = None;
                looking.full_at = Some(now);
                looking.shallow_at = Some(now);
                looking.full_took = now - started;
            }
            told.send_replace(Some(outcome));
        });
        look
    }

    // -- what makes searches fast ------------------------------------------------------------------------------------

    /// Waits a moment for what is being read.
    async fn learned(&self) {
        let running = locked(&self.shared.learning).running.clone();
        if let Some(mut running) = running {
            // An error says that the sender is gone: it has ended.
            let _ = tokio::time::timeout(LEARNING_WAIT, running.changed()).await;
        }
    }

    /// Starts to read what the last question lacked, when the library keeps still.
    fn learn(&self) {
        if !self.shared.searcher.is_behind() || self.shared.index.is_busy() {
            return;
        }
        let mut learning = locked(&self.shared.learning);
        let pause = learning.took * LEARNING_SHARE;
        if learning.running.is_some() || learning.ended.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        let (until_ended, running) = watch::channel(());
        learning.running = Some(running);
        let catalog = self.clone();
        tokio::spawn(async move {
            let started = Instant::now();
            let shared = Arc::clone(&catalog.shared);
            let read = move |c: &Connection| shared.searcher.learn(c, &|| shared.index.is_stopped());
            if let Err(error) = catalog.read(None, read).await {
                tracing::warn!("searches stay slower than they could be: {error}");
            }
            let mut learning = locked(&catalog.shared.learning);
            let now = Instant::now();
            (learning.running, learning.ended, learning.took) = (None, Some(now), now - started);
            drop(until_ended);
        });
    }

    // -- reading -----------------------------------------------------------------------------------------------------

    async fn read<T: Send + 'static>(
        &self,
        deadline: Option<Duration>,
        query: impl Fn(&Connection) -> rusqlite::Result<T> + Send + Sync + 'static,
    ) -> Result<T> {
        let query = Arc::new(query);
        for _ in 0..DAMAGED_FILES {
            let outcome = self.read_once(deadline, Arc::clone(&query)).await;
            if outcome.is_ok() || self.shared.index.is_complete() {
                return outcome;
            }
            // The index was damaged and put aside under this very query: ask what took its place.
            self.fresh().await?;
        }
        self.read_once(deadline, query).await
    }

    async fn read_once<T: Send + 'static>(
        &self,
        deadline: Option<Duration>,
        query: Arc<impl Fn(&Connection) -> rusqlite::Result<T> + Send + Sync + 'static>,
    ) -> Result<T> {
        let index = self.index();
        let database = match index.opened() {
            Some(database) => database,
            None => blocking(move || index.database()).await?,
        };
        database.read(deadline, move |c| query(c)).await
    }

    async fn current(&self) -> Result<Known> {
        let known = locked(&self.shared.known).clone();
        let current = self
            .read(None, move |c| {
                let state = store::state(c)?;
                let totals = match &known {
                    Some(known) if known.revision == state.revision => known.totals,
                    _ => store::totals(c)?,
                };
                Ok(Known {
                    revision: state.revision,
                    totals,
                    last_scan: state.last_scan,
                })
            })
            .await?;
        *locked(&self.shared.known) = Some(current.clone());
        Ok(current)
    }
}

async fn ended(mut look: Look) -> Outcome {
    match look
        .wait_for(Option::is_some)
        .await
        .map(|outcome| outcome.clone())
    {
        Ok(Some(outcome)) => outcome,
        _ => Err(Error::Bug(
            "a look at the library ended without a result".to_owned(),
        )),
    }
}

/// Files (or folders) directly in a folder; 0 when there is none.
fn count(folder: &Path, counts: impl Fn(&Path) -> bool) -> usize {
    let entries = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(io::Result::ok);
    entries.filter(|entry| counts(&entry.path())).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends a test that hangs.
    const BOUND: Duration = Duration::from_secs(30);

    fn add(layout: &Layout, name: &str) {
        let folder = layout.library().join("llm/x").join(name);
        fs::create_dir_all(&folder).unwrap();
        let metadata = serde_json::json!({"official_name": name, "model_type": "llm"});
        fs::write(folder.join("metadata.json"), metadata.to_string()).unwrap();
    }

    async fn total(catalog: &Catalog, text: &str) -> i64 {
        let page = catalog.search(text.to_owned(), Filters::default(), None, 0, Sort::Relevance);
        page.await.unwrap().total
    }

    async fn until_learned(catalog: &Catalog) {
        let learned = async {
            while catalog.shared.searcher.is_behind() {
                total(catalog, "harbor").await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(BOUND, learned).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn searches_learn_the_library_and_follow_its_changes() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Arc::new(Layout::new(folder.path()));
        add(&layout, "Harbor");
        let catalog = Catalog::with_searcher(
            Arc::clone(&layout),
            EventStream::new(),
            Arc::new(Troubles::default()),
            Searcher::holding_from(1),
        );
        assert_eq!(total(&catalog, "harb").await, 1);
        until_learned(&catalog).await;
        assert_eq!(total(&catalog, "harb").await, 1);
        assert!(!catalog.shared.searcher.is_behind());
        add(&layout, "Harbor of old");
        catalog.reconcile().await.unwrap();
        assert_eq!(total(&catalog, "harb").await, 2);
        until_learned(&catalog).await;
        assert_eq!(
            (total(&catalog, "harb").await, total(&catalog, "old").await),
            (2, 1)
        );
        let counts = catalog.facets("harb".to_owned(), Filters::default(), UsedBy::new());
        assert_eq!(counts.await.unwrap().types["llm"], 2);
        catalog.close().await;
    }
}
