//! Questions to the Hugging Face hub.

use pumas_core::hub::Found;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::registry::{Row, row};

#[derive(Deserialize)]
struct Search {
    query: String,
    kind: Option<String>,
    // Any integer of the wire; the service keeps it within bounds.
    limit: i128,
}

#[derive(Deserialize)]
struct Related {
    model_id: String,
    limit: i128,
}

#[derive(Serialize)]
struct Results {
    models: Vec<Value>,
    stale: bool,
    fetched_at: Option<String>,
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("search_hf_models", |api, p: Search| async move {
            Ok(results(
                api.hub
                    .search(&p.query, &p.kind.unwrap_or_default(), p.limit)
                    .await?,
            ))
        }),
        row("get_related_models", |api, p: Related| async move {
            Ok(results(api.hub.related(p.model_id, p.limit).await?))
        }),
    ]
}

fn results(found: Found) -> Results {
    Results {
        stale: found.answer.as_ref().is_some_and(|answer| answer.stale),
        fetched_at: found.answer.map(|answer| answer.fetched()),
        models: found.models,
    }
}
