//! What goes to and fro between the sidecar and hosts outside, and by which way.

use indexmap::IndexMap;
use pumas_core::net::{Changes, HostState, NetworkSettings};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::registry::{NoParams, Row, row};

#[derive(Deserialize)]
struct SetSettings {
    offline: Option<bool>,
    proxy: Option<String>,
    mirrors: Option<IndexMap<String, String>>,
    ca_bundle: Option<String>,
}

#[derive(Serialize)]
struct Status {
    total_requests: u64,
    successful_requests: u64,
    failed_requests: u64,
    circuit_breaker_rejections: u64,
    withheld_requests: u64,
    interrupted_transfers: u64,
    retries: u64,
    success_rate: f64,
    bytes_received: u64,
    circuit_states: Map<String, Value>,
    is_offline: bool,
    offline: bool,
    proxy: Option<String>,
    hosts: Vec<Asked>,
}

#[derive(Serialize)]
struct Asked {
    host: String,
    state: &'static str,
    retry_after: f64,
    rate_limited: bool,
    requests: u64,
    failures: u64,
    retries: u64,
    bytes_received: u64,
    last_error: Option<String>,
}

#[derive(Serialize)]
struct Settings {
    settings: Value,
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("get_network_status", |api, _: NoParams| async move {
            let status = api.network.status();
            let counted = status.counted;
            Ok(Status {
                total_requests: counted.total(),
                successful_requests: counted.succeeded,
                failed_requests: counted.failed,
                circuit_breaker_rejections: counted.rejected,
                withheld_requests: counted.withheld,
                interrupted_transfers: counted.interrupted,
                retries: counted.retries,
                success_rate: counted.success_rate(),
                bytes_received: counted.received,
                circuit_states: status
                    .hosts
                    .iter()
                    .map(|host| (host.host.clone(), json!(host.circuit.as_str())))
                    .collect(),
                is_offline: status.is_offline(),
                offline: status.offline,
                proxy: status.proxy,
                hosts: status.hosts.into_iter().map(shown).collect(),
            })
        }),
        row("get_network_settings", |api, _: NoParams| async move {
            Ok(settings(&api.network.settings()))
        }),
        row("set_network_settings", |api, p: SetSettings| async move {
            let SetSettings {
                offline,
                proxy,
                mirrors,
                ca_bundle,
            } = p;
            Ok(settings(
                &api.network
                    .change(Changes {
                        offline,
                        proxy,
                        mirrors,
                        ca_bundle,
                    })
                    .await?,
            ))
        }),
    ]
}

fn shown(host: HostState) -> Asked {
    let wait = host.circuit_wait.max(host.rate_limit_wait);
    Asked {
        state: host.circuit.as_str(),
        retry_after: (wait.as_secs_f64() * 1000.0).round() / 1000.0,
        rate_limited: !host.rate_limit_wait.is_zero(),
        requests: host.counted.total(),
        failures: host.counted.failed,
        retries: host.counted.retries,
        bytes_received: host.counted.received,
        last_error: host.last_error,
        host: host.host,
    }
}

fn settings(settings: &NetworkSettings) -> Settings {
    Settings {
        settings: Value::Object(settings.shown()),
    }
}
