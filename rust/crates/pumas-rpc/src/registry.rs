//! The method table: one row per method, and nothing without a row can be called.
//!
//! A row says the name on the wire, the type of the parameters, and the function that does it. What the parameters may be
//! and how the value becomes a reply is said by the contract (`contracts/openrpc.json`, `response_wrappers.json`).

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use pumas_core::{Error, PumasApi};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::params;
use crate::reply::{Long, Text};
use crate::wire::{Problem, WireError};
use crate::wrap::{Wrapper, wrapper};

/// How a row's function fails.
#[derive(Debug)]
pub enum Failure {
    /// By a service.
    Service(Error),
    /// By parameters that only the function could check.
    Params(Vec<Problem>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Service(error)
    }
}

type Reply = Pin<Box<dyn Future<Output = Result<Text, WireError>> + Send>>;
type Call = Box<dyn Fn(Arc<PumasApi>, Map<String, Value>) -> Reply + Send + Sync>;

/// One method. Made by [`row`].
pub struct Row {
    name: &'static str,
    wrapper: &'static Wrapper,
    call: Call,
}

impl Row {
    /// The name on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it answers however much is going on.
    #[must_use]
    pub fn is_builtin(&self) -> bool {
        self.wrapper.is_builtin()
    }

    /// Check the parameters, run the function, wrap its value: the result as JSON text.
    pub async fn call(&self, api: Arc<PumasApi>, raw: Map<String, Value>) -> Result<Text, WireError> {
        (self.call)(api, raw).await
    }
}

/// The parameters of methods that take none.
#[derive(Debug, serde::Deserialize)]
pub struct NoParams {}

/// Declare a method: `row("name", |api, params: Params| async move { Ok(…) })`.
///
/// The parameters arrive checked, in `snake_case`, with the contract's defaults filled in, so a params struct has one
/// plain field per parameter. The function returns anything that serialises to the method's result before wrapping;
/// `?` turns a service's error into a [`Failure`].
///
/// # Panics
/// When the contract does not know the name: a mistake that the first test finds.
pub fn row<P, R, F, Fut>(name: &'static str, function: F) -> Row
where
    P: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    F: Fn(Arc<PumasApi>, P) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<R, Failure>> + Send + 'static,
{
    made(name, function, |wrapper, value: R| {
        wrapper.success(&value).map(Text::from)
    })
}

/// Declare a method whose value is too long to be held in memory as a whole, as [`row`] does for others.
///
/// # Panics
/// As [`row`].
pub fn long_row<P, F, Fut>(name: &'static str, function: F) -> Row
where
    P: DeserializeOwned + Send + 'static,
    F: Fn(Arc<PumasApi>, P) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<Long, Failure>> + Send + 'static,
{
    made(name, function, Wrapper::long)
}

fn made<P, R, F, Fut>(
    name: &'static str,
    function: F,
    reply: fn(&Wrapper, R) -> serde_json::Result<Text>,
) -> Row
where
    P: DeserializeOwned + Send + 'static,
    R: Send + 'static,
    F: Fn(Arc<PumasApi>, P) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<R, Failure>> + Send + 'static,
{
    #[expect(clippy::panic, reason = "a row without a contract cannot be served")]
    let Some(wrapper) = wrapper(name) else {
        panic!("contracts/response_wrappers.json has no {name}")
    };
    let call: Call = Box::new(move |api, raw| {
        let function = function.clone();
        Box::pin(async move {
            let params = parse::<P>(name, wrapper, raw)?;
            match function(api, params).await {
                Ok(value) => reply(wrapper, value).map_err(|error| bug(name, &error)),
                Err(failure) => failed(name, wrapper, failure).map(Text::from),
            }
        })
    });
    Row { name, wrapper, call }
}

fn parse<P: DeserializeOwned>(
    name: &str,
    wrapper: &Wrapper,
    raw: Map<String, Value>,
) -> Result<P, WireError> {
    // The server's own methods take whatever older clients send along.
    let checked = if wrapper.is_builtin() {
        Map::new()
    } else {
        params::check(name, raw)?
    };
    serde_json::from_value(Value::Object(checked)).map_err(|error| bug(name, &error))
}

fn failed(name: &str, wrapper: &Wrapper, failure: Failure) -> Result<Vec<u8>, WireError> {
    match failure {
        Failure::Params(problems) => Err(WireError::invalid_params(&problems)),
        Failure::Service(Error::Bug(text)) => Err(bug(name, &text)),
        Failure::Service(error) if wrapper.has_envelope() => {
            serde_json::to_vec(&wrapper.failed(&error)).map_err(|error| bug(name, &error))
        }
        Failure::Service(error) => Err(WireError::of(&error)),
    }
}

fn bug(name: &str, what: &dyn std::fmt::Display) -> WireError {
    tracing::error!("{name} failed by a bug: {what}");
    WireError::internal()
}

/// The rows of all domains, by name.
pub struct Methods {
    rows: BTreeMap<&'static str, Row>,
}

impl Methods {
    /// The table of these rows.
    ///
    /// # Panics
    /// When two rows have one name.
    #[must_use]
    pub fn new(rows: Vec<Row>) -> Self {
        let mut table = BTreeMap::new();
        for row in rows {
            let name = row.name;
            assert!(table.insert(name, row).is_none(), "two rows are called {name}");
        }
        Self { rows: table }
    }

    /// The row with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Row> {
        self.rows.get(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.rows.keys().copied()
    }
}
