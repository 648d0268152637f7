//! What the hub's methods do: search, and find relatives of a model.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::answers::{Answer, Answers, Deadline};
use super::client::{HubClient, Listing};
use super::model::HubListing;
use super::search::{self, MAX_LIMIT};
use super::store::HubStore;
use crate::config::Layout;
use crate::error::Result;
use crate::library::service::LibraryService;
use crate::net::NetworkClient;

const SEARCH_TTL: Duration = Duration::from_hours(1);
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

/// Asks the hub. Cheap to clone.
#[derive(Clone)]
pub struct HubService {
    /// Other domains may use it too.
    pub client: HubClient,
    library: LibraryService,
    store: HubStore,
    answers: Arc<Answers>,
}

impl HubService {
    /// Opens nothing before the first question.
    ///
    /// # Errors
    /// `Bug` when the schema of the cache makes no sense.
    pub fn new(layout: &Layout, network: NetworkClient, library: LibraryService) -> Result<Self> {
        let store = HubStore::new(layout)?;
        let answers = Answers::new(store.clone());
        Ok(Self {
            client: HubClient::new(network),
            library,
            store,
            answers,
        })
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
            models: answer.value()?,
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
            models: found.iter().map(search::result).collect(),
            answer: Some(answer),
        })
    }

    /// Answers of one hub are not those of another.
    fn key(&self, parts: &[&str]) -> Result<String> {
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
