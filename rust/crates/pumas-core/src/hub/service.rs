//! What the hub's methods do: search, look at one repository, find relatives of a model.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use indexmap::{IndexMap, IndexSet};
use serde_json::{Value, json};

use super::answers::{Answer, Answers, Deadline};
use super::client::{HubClient, Listing};
use super::drift::{DriftReport, HeldModel, compare};
use super::model::{DEFAULT_REVISION, HubListing, HubModel, is_commit, parse_place, parse_repo_id};
use super::origins;
use super::repository::{RepoView, without_front_matter};
use super::search::{self, MAX_LIMIT};
use super::store::HubStore;
use crate::blocking::blocking;
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::jobs::JobService;
use crate::library::hashing::Stamp;
use crate::library::service::LibraryService;
use crate::net::NetworkClient;
use crate::storage::files::{During as _, free_space};
use crate::storage::locked;

const SEARCH_TTL: Duration = Duration::from_hours(1);
const DRIFT_TTL: Duration = Duration::from_hours(1);
const AT_ONCE: usize = 6;
const MODEL_TTL: Duration = Duration::from_mins(10);
/// For what a commit id names: it cannot change.
const FOREVER: Duration = Duration::from_hours(365 * 24);
const CARD_BYTES: usize = 128 * 1024;
const MAX_SIZES: usize = 2_000;
/// Part of every key: an answer that another version kept in another form is not found.
const FORM: &str = "1";

/// Search results in wire form, and how old they are; `answer` is `None` when nobody had to be asked.
#[derive(Debug, Clone)]
pub struct Found {
    /// Repositories.
    pub models: Vec<Value>,
    /// Where they are from.
    pub answer: Option<Answer>,
}

/// What somebody wants to see of a repository.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// `owner/name`, or the address of its page.
    pub repo_id: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// A quantisation, in any spelling.
    pub quant: Option<String>,
    /// Files by name; `*` and `?` stand for any characters.
    pub filenames: Vec<String>,
    /// Whether the card's text is wanted as well.
    pub card: bool,
}

/// What downloads without and with a quantisation take, by repository and commit.
type Sizes = Arc<Mutex<IndexMap<(String, String), IndexMap<String, u64>>>>;

/// Asks the hub. Cheap to clone.
#[derive(Clone)]
pub struct HubService {
    /// Other domains may use it too.
    pub client: HubClient,
    pub(super) jobs: JobService,
    pub(super) store: HubStore,
    pub(super) answers: Arc<Answers>,
    /// Files that are being hashed, and by which job.
    pub(super) hashing: Arc<tokio::sync::Mutex<Vec<(Stamp, String)>>>,
    library: LibraryService,
    sizes: Sizes,
    layout: Layout,
    room: Arc<OnceLock<Room>>,
}

/// How many bytes a download may take of the library's disk. Blocks.
pub(crate) type Room = Box<dyn Fn() -> Result<u64> + Send + Sync>;

impl HubService {
    /// Opens nothing before the first question.
    ///
    /// # Errors
    /// `Bug` when the schema of the cache makes no sense.
    pub fn new(
        layout: &Layout,
        network: NetworkClient,
        library: LibraryService,
        jobs: &JobService,
    ) -> Result<Self> {
        let store = HubStore::new(layout)?;
        let answers = Answers::new(store.clone());
        origins::register(jobs, &store);
        Ok(Self {
            client: HubClient::new(network),
            jobs: jobs.clone(),
            hashing: Arc::default(),
            library,
            store,
            answers,
            sizes: Sizes::default(),
            layout: layout.clone(),
            room: Arc::default(),
        })
    }

    /// Whom to ask what a download may take of the disk; nobody: all that is free.
    pub(crate) fn ask_room(&self, room: Room) {
        let _ = self.room.set(room);
    }

    /// Repositories whose name holds the words. One request to the hub, none when the answer is fresh.
    ///
    /// # Errors
    /// `InvalidInput`: the words are too many, or `kind` cannot be a task. Those of the network, `TokenRefused`, `TimedOut`:
    /// there is no answer, and none from before.
    pub async fn search(&self, query: &str, kind: &str, limit: i128) -> Result<Found> {
        let (words, task) = (search::words_of(query)?, search::task_of(kind)?);
        let limit = clamped(limit);
        let key = self.key(&["search", &words.to_lowercase(), &task, &limit.to_string()])?;
        let sort = if words.is_empty() {
            "trendingScore"
        } else {
            "downloads"
        };
        let wanted = Listing {
            search: words,
            task,
            sort,
            limit,
            ..Listing::default()
        };
        let client = self.client.clone();
        let ask = async move {
            let found = client.models(wanted).await?;
            Ok(found.iter().map(search::result).collect())
        };
        let answer = self
            .answers
            .get(key, SEARCH_TTL, Deadline::of_call(), ask)
            .await?;
        Ok(Found {
            models: self.with_sizes(answer.value()?),
            answer: Some(answer),
        })
    }

    /// Other repositories of the base model's owner with the family in their name; none where either is unknown.
    ///
    /// # Errors
    /// `ModelNotFound`, `UnsafePath`, `CorruptState`: about the model. Else as [`HubService::search`].
    pub async fn related(&self, model_id: String, limit: i128) -> Result<Found> {
        let metadata = self.library.detail(model_id).await?.metadata;
        let token = search::family_token(&metadata);
        let Some(base) = search::base_repo(&metadata).filter(|_| !token.is_empty()) else {
            return Ok(Found {
                models: Vec::new(),
                answer: None,
            });
        };
        let owner = base.split('/').next().unwrap_or_default().to_owned();
        let family = metadata
            .get("family")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .trim()
            .to_lowercase();
        let limit = clamped(limit);
        let key = self.key(&["related", &owner.to_lowercase(), &family, &limit.to_string()])?;
        let all = Listing {
            author: owner.clone(),
            sort: "downloads",
            limit,
            ..Listing::default()
        };
        let client = self.client.clone();
        let ask = async move {
            let named = client
                .models(Listing {
                    search: family,
                    ..all.clone()
                })
                .await?;
            // A family may be spelled otherwise in names; then those that are downloaded most are looked through.
            let found = if named.is_empty() {
                client.models(all).await?
            } else {
                named
            };
            Ok(json!(found))
        };
        let answer = self
            .answers
            .get(key, SEARCH_TTL, Deadline::of_call(), ask)
            .await?;
        let listings: Vec<HubListing> = answer.value()?;
        let own = search::own_repo(&metadata).unwrap_or_default();
        let found = search::related(listings, &owner, &token, &own);
        Ok(Found {
            models: self.with_sizes(found.iter().map(search::result).collect()),
            answer: Some(answer),
        })
    }

    /// The repository, the ways to take it, and what this wish would fetch.
    ///
    /// # Errors
    /// `InvalidInput`: the name or revision cannot be one, or there are no such files; then it says which there are. Else as
    /// [`HubClient::model`], and `TimedOut`.
    pub async fn show(&self, wish: Wish) -> Result<RepoView> {
        let deadline = Deadline::of_call();
        let place = parse_place(&wish.repo_id)?;
        let revision = place.revision_for(&wish.revision);
        let quant = place.quant_for(wish.quant.as_deref(), &wish.filenames);
        let filenames = place.names_for(wish.quant.as_deref(), &wish.filenames);
        let (model, answer) = self.model(&place.repo_id, &revision, deadline).await?;
        let (layout, room) = (self.layout.clone(), Arc::clone(&self.room));
        let wants_card = wish.card;
        let mut view = blocking(move || {
            let mut view = RepoView::of(model, revision, answer, Some(quant.as_str()), &filenames)?;
            view.free_bytes = free_space(&layout.library()).during("Asking for free space")?;
            view.room_bytes = room.get().map_or(Ok(view.free_bytes), |room| room())?;
            Ok(view)
        })
        .await?;
        self.remember_sizes(&view);
        if wants_card {
            view.card = self.card(&view.model, deadline).await;
        }
        view.held = self.held(&view.model.said.repo_id).await;
        Ok(view)
    }

    /// For each model of the library that is from the hub: whether the hub has something newer.
    ///
    /// One request per repository, a few at a time, none for those asked within the hour. What is not answered within the
    /// time of a call is `unasked`; the answers are kept when they come.
    ///
    /// # Errors
    /// `ModelNotFound`, `UnsafePath`, `CorruptState`: about a model that was named.
    pub async fn drift(&self, model_ids: Option<Vec<String>>) -> Result<Vec<DriftReport>> {
        let deadline = Deadline::of_call();
        let held = self.held_models(model_ids).await?;
        let repos: BTreeSet<String> = held.iter().map(|one| one.repo_id.clone()).collect();
        let asked = stream::iter(repos).map(|repo_id| async move {
            let upstream = self
                .model_for(&repo_id, DEFAULT_REVISION, DRIFT_TTL, deadline)
                .await;
            (repo_id, upstream)
        });
        let upstream: HashMap<String, Result<(HubModel, Answer)>> =
            asked.buffer_unordered(AT_ONCE).collect().await;
        let report = |one: HeldModel| match upstream.get(&one.repo_id) {
            Some(Ok((model, answer))) => compare(one, model, answer.stale),
            Some(Err(error)) => DriftReport::failed(one, error),
            None => DriftReport::failed(one, &Error::Bug("a repository was not asked about".to_owned())),
        };
        Ok(held.into_iter().map(report).collect())
    }

    async fn held_models(&self, model_ids: Option<Vec<String>>) -> Result<Vec<HeldModel>> {
        let rows: IndexMap<String, String> = self.library.catalog.from_hub().await?.into_iter().collect();
        let models = self.library.parts.models.clone();
        blocking(move || {
            let named = model_ids.is_some();
            let wanted: IndexSet<String> = match model_ids {
                Some(ids) => ids.into_iter().collect(),
                None => rows.keys().cloned().collect(),
            };
            let mut found = Vec::new();
            for model_id in wanted {
                match models.load(&model_id) {
                    Err(error) if named => return Err(error),
                    Err(error) => tracing::info!("{model_id} is passed over: {error}"),
                    Ok(metadata) => found.extend(
                        rows.get(&model_id)
                            .map(|repo_id| HeldModel::of(model_id, repo_id.clone(), &metadata)),
                    ),
                }
            }
            Ok(found)
        })
        .await
    }

    async fn model(&self, repo_id: &str, revision: &str, deadline: Deadline) -> Result<(HubModel, Answer)> {
        self.model_for(repo_id, revision, MODEL_TTL, deadline).await
    }

    pub(super) async fn model_for(
        &self,
        repo_id: &str,
        revision: &str,
        ttl: Duration,
        deadline: Deadline,
    ) -> Result<(HubModel, Answer)> {
        let repo_id = parse_repo_id(repo_id)?;
        super::client::check_revision(revision)?;
        let key = self.key(&["model", &repo_id.to_lowercase(), revision])?;
        let ttl = if is_commit(revision) { FOREVER } else { ttl };
        let (client, revision) = (self.client.clone(), revision.to_owned());
        let ask = async move { Ok(json!(client.model(&repo_id, &revision).await?)) };
        let answer = self.answers.get(key, ttl, deadline, ask).await?;
        Ok((answer.value()?, answer))
    }

    /// A card that cannot be had now is no reason to show nothing of the model.
    async fn card(&self, model: &HubModel, deadline: Deadline) -> Option<String> {
        if !model.files.iter().any(|file| file.path == "README.md") {
            return Some(String::new());
        }
        let (repo_id, commit) = (model.said.repo_id.clone(), model.said.commit.clone());
        let key = self.key(&["card", &repo_id.to_lowercase(), &commit]).ok()?;
        let client = self.client.clone();
        let ask = async move { Ok(json!(client.card_text(&repo_id, &commit, CARD_BYTES).await?)) };
        let answer = self.answers.get(key, FOREVER, deadline, ask).await;
        let text: String = answer
            .and_then(|answer| answer.value())
            .inspect_err(|error| {
                tracing::info!("no model card of {}: {error}", model.said.repo_id);
            })
            .ok()?;
        Some(without_front_matter(&text).to_owned())
    }

    async fn held(&self, repo_id: &str) -> Vec<String> {
        let rows = self.library.catalog.from_hub().await.unwrap_or_else(|error| {
            tracing::info!("which models are from {repo_id} is not known now: {error}");
            Vec::new()
        });
        let same = |known: &str| known.to_lowercase() == repo_id.to_lowercase();
        rows.into_iter()
            .filter(|(_, known)| same(known))
            .map(|(model_id, _)| model_id)
            .collect()
    }

    fn remember_sizes(&self, view: &RepoView) {
        let said = &view.model.said;
        let mut sizes = locked(&self.sizes);
        sizes.insert((said.repo_id.clone(), said.commit.clone()), view.sizes());
        if sizes.len() > MAX_SIZES {
            sizes.shift_remove_index(0);
        }
    }

    /// The results, with sizes where the repository was looked at in the same state.
    fn with_sizes(&self, mut found: Vec<Value>) -> Vec<Value> {
        let known = locked(&self.sizes);
        for one in &mut found {
            let text = |key: &str| {
                one.get(key)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            if let Some(sizes) = known.get(&(text("repoId"), text("commit"))) {
                search::set_sizes(one, sizes);
            }
        }
        found
    }

    /// Answers of one hub are not those of another.
    pub(super) fn key(&self, parts: &[&str]) -> Result<String> {
        Ok([&[FORM, &self.client.endpoint()?], parts].concat().join("\n"))
    }

    /// Close the cache's file. Blocks for a moment.
    pub fn close_files_sync(&self) {
        self.store.close_sync();
    }
}

fn clamped(limit: i128) -> u32 {
    u32::try_from(limit.clamp(1, MAX_LIMIT)).unwrap_or(1)
}
