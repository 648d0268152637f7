//! The network as its callers see it: settings that last, and a status that costs nothing to ask for.
//!
//! Events: `network.state` whenever offline mode or a host's circuit changes, `network.settings` whenever they were set.
//! Nothing here waits for the network; only changing settings touches the disk.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::client::NetworkClient;
use super::hosts::NetworkStatus;
use super::settings::{Changes, NetworkSettings};
use super::{certificates, children};
use crate::blocking::blocking;
use crate::config::Layout;
use crate::error::{Error, Result};
use crate::events::EventStream;
use crate::storage::files::{During as _, FOLDER_MODE, make_folders};
use crate::storage::json_file::{self, Readers};
use crate::storage::locked;
use crate::storage::state_lock::StateLock;
use crate::storage::troubles::Troubles;

const TOPIC: &str = "network.state";
const SETTINGS_TOPIC: &str = "network.settings";
const SUBJECT: &str = "launcher-data/metadata/network.json";

/// Owns the one [`NetworkClient`], which other domains get as `client`. Cheap to clone.
#[derive(Clone)]
pub struct NetworkService {
    /// Asks hosts.
    pub client: NetworkClient,
    shared: Arc<Shared>,
}

struct Shared {
    events: EventStream,
    path: PathBuf,
    certificates: PathBuf,
    lock: StateLock,
    troubles: Arc<Troubles>,
    settings: Mutex<NetworkSettings>,
}

#[derive(Serialize)]
struct NetworkState {
    offline: bool,
    is_offline: bool,
    circuit_states: Map<String, Value>,
}

impl NetworkService {
    /// Reads nothing yet: [`NetworkService::open`] does.
    ///
    /// # Errors
    /// None that the default settings could cause.
    pub fn new(layout: &Layout, events: EventStream, troubles: &Arc<Troubles>) -> Result<Self> {
        let settings = NetworkSettings::default();
        let client = NetworkClient::new(&settings)?;
        let told = events.clone();
        client.on_change(move |status| told.publish(TOPIC, &state(status)));
        let shared = Shared {
            events,
            path: layout.network_settings(),
            certificates: layout.cache().join("trusted.pem"),
            lock: StateLock::new(layout.state_lock()),
            troubles: Arc::clone(troubles),
            settings: Mutex::new(settings),
        };
        Ok(Self {
            client,
            shared: Arc::new(shared),
        })
    }

    /// Read the settings; a file that cannot be read is a trouble, and the defaults hold.
    ///
    /// # Errors
    /// `Bug` when the reading panicked.
    pub async fn open(&self) -> Result<()> {
        let service = self.clone();
        blocking(move || {
            let settings = service.shared.load();
            service.client.configure(&settings)?;
            service.shared.tell_children(&settings);
            *locked(&service.shared.settings) = settings;
            Ok(())
        })
        .await
    }

    /// From memory.
    #[must_use]
    pub fn status(&self) -> NetworkStatus {
        self.client.status()
    }

    /// As they are now.
    #[must_use]
    pub fn settings(&self) -> NetworkSettings {
        locked(&self.shared.settings).clone()
    }

    /// Change what is given, save it, and use it from the next request on. Answers all settings.
    ///
    /// # Errors
    /// Nothing was changed. `InvalidInput`, `FileUnavailable`: a value cannot be used; what the disk refuses.
    pub async fn change(&self, changes: Changes) -> Result<NetworkSettings> {
        let service = self.clone();
        blocking(move || {
            let _held = service.shared.lock.hold()?;
            let settings = service.settings().changed(changes)?;
            service.shared.save(&settings)?;
            service.client.configure(&settings)?;
            service.shared.tell_children(&settings);
            *locked(&service.shared.settings) = settings.clone();
            service.shared.events.publish(SETTINGS_TOPIC, &settings.shown());
            Ok(settings)
        })
        .await
    }

    /// End every request that is under way.
    pub fn close(&self) {
        self.client.close();
    }
}

fn state(status: &NetworkStatus) -> NetworkState {
    let circuits = status
        .hosts
        .iter()
        .map(|host| (host.host.clone(), json!(host.circuit.as_str())));
    NetworkState {
        offline: status.offline,
        is_offline: status.is_offline(),
        circuit_states: circuits.collect(),
    }
}

impl Shared {
    fn tell_children(&self, settings: &NetworkSettings) {
        let bundle = settings.ca_bundle.as_ref().map(Path::new);
        let trusted = bundle.map(|bundle| certificates::gathered(bundle, &self.certificates));
        children::choose(settings, trusted);
    }

    fn save(&self, settings: &NetworkSettings) -> Result<()> {
        let mut stored = match json_file::load(&self.path) {
            Ok(loaded) => loaded.value.unwrap_or_default(),
            // The user says anew how it shall be; what could not be read stays under a dated name.
            Err(Error::CorruptState { .. }) => Map::new(),
            Err(error) => return Err(error),
        };
        stored.extend(settings.to_json());
        let folder = self.path.parent().unwrap_or(&self.path);
        make_folders(folder, FOLDER_MODE).during("Writing network.json")?;
        // The proxy's password is for this user alone.
        json_file::save(&self.path, &stored, Readers::OnlyUs)?;
        self.troubles.clear(SUBJECT);
        Ok(())
    }

    fn load(&self) -> NetworkSettings {
        let loaded = match json_file::load(&self.path) {
            Ok(loaded) => loaded,
            Err(error) => {
                let message = format!("{error} Until the network settings are set anew, the defaults hold.");
                self.report(error.kind(), &message);
                return NetworkSettings::default();
            }
        };
        let (settings, wrong) = NetworkSettings::read(&loaded.value.unwrap_or_default());
        if let Some(reason) = loaded.recovered {
            self.report(
                "recovered_state",
                &format!("network.json was damaged ({reason}); its backup is used."),
            );
        }
        if !wrong.is_empty() {
            let names = wrong.join(", ");
            let message = format!("network.json: {names} cannot be used; the defaults hold for that.");
            self.report("damaged_settings", &message);
        }
        settings
    }

    fn report(&self, kind: &str, message: &str) {
        self.troubles.report(SUBJECT, kind, message);
        tracing::warn!("{message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn settings_last_and_unknown_keys_stay() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        std::fs::create_dir_all(layout.data().join("metadata")).unwrap();
        std::fs::write(
            layout.network_settings(),
            br#"{"offline": true, "later": 7, "proxy": 1}"#,
        )
        .unwrap();
        let troubles = Arc::new(Troubles::default());
        let service = NetworkService::new(&layout, EventStream::new(), &troubles).unwrap();
        service.open().await.unwrap();
        assert!(service.client.offline());
        assert_eq!(
            troubles.list()[0].message,
            "network.json: proxy cannot be used; the defaults hold for that."
        );
        let changes = Changes {
            proxy: Some("http://me:x@p:1".to_owned()),
            ..Changes::default()
        };
        service.change(changes).await.unwrap();
        assert_eq!(troubles.count(), 0);
        let stored = json_file::parse_object(&layout.network_settings()).unwrap();
        assert_eq!(
            (stored["later"].clone(), stored["proxy"].clone()),
            (json!(7), json!("http://me:x@p:1"))
        );
        let bad = Changes {
            proxy: Some("ftp://p".to_owned()),
            ..Changes::default()
        };
        assert!(service.change(bad).await.is_err());
        assert_eq!(service.status().proxy.as_deref(), Some("http://me:***@p:1"));
    }
}
