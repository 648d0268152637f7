//! The methods of the server itself: is it there, what can it do, stop.

use pumas_core::Error;
use pumas_core::contracts::OPENRPC;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::registry::{NoParams, Row, row};

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("health_check", |_, _: NoParams| async {
            Ok(Status { status: "ok" })
        }),
        row("shutdown", |api, _: NoParams| async move {
            api.stop.ask();
            Ok(Status {
                status: "shutting_down",
            })
        }),
        row("rpc.discover", |_, _: NoParams| async {
            let document: &'static RawValue = serde_json::from_str(OPENRPC)
                .map_err(|error| Error::Bug(format!("openrpc.json: {error}")))?;
            Ok(document)
        }),
    ]
}
