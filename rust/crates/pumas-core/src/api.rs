//! Builds the services and connects them: the one place that knows all domains.

use std::path::PathBuf;
use std::sync::Arc;

use crate::adoption::AdoptionService;
use crate::apps::Apps;
use crate::blocking::blocking;
use crate::config::Layout;
use crate::connections::{follow_runs, follow_versions};
use crate::desktop::DesktopService;
use crate::downloads::DownloadService;
use crate::error::Result;
use crate::events::EventStream;
use crate::hub::HubService;
use crate::installed::Installed;
use crate::jobs::{JobService, JobStore};
use crate::library::service::LibraryService;
use crate::links::keeping::LinkKeeper;
use crate::links::service::{LinkParts, LinkService};
use crate::links::store::LinkStore;
use crate::net::NetworkService;
use crate::nodes::{NodeParts, NodeService};
use crate::processes::{AppsStatus, Patching, ProcessService};
use crate::stop::Stop;
use crate::storage::leftovers::remove_leftovers;
use crate::storage::troubles::Troubles;
use crate::system::SystemService;
use crate::updates::UpdateService;
use crate::versions::{NodePackages, VersionService};

/// Every service, each built with just what it needs.
///
/// ```
/// # fn main() -> pumas_core::Result<()> {
/// let root = std::env::temp_dir().join("pumas-example");
/// let api = pumas_core::PumasApi::new(root)?;
/// assert_eq!(api.troubles.count(), 0);
/// # Ok(())
/// # }
/// ```
pub struct PumasApi {
    /// Where everything lives.
    pub layout: Arc<Layout>,
    /// What happens, as a stream.
    pub events: EventStream,
    /// What is wrong with the files that we keep.
    pub troubles: Arc<Troubles>,
    /// Long work.
    pub jobs: JobService,
    /// The machine, and what is missing on it.
    pub system: Arc<SystemService>,
    /// The models.
    pub library: LibraryService,
    /// Models of other programs.
    pub adoption: AdoptionService,
    /// Asks hosts outside.
    pub network: NetworkService,
    /// Asks the Hugging Face hub.
    pub hub: HubService,
    /// Gives apps the models.
    pub links: LinkService,
    /// Running apps.
    pub processes: ProcessService,
    /// The title of a server's process.
    pub patching: Patching,
    /// What `get_status` says of the apps.
    pub apps_status: AppsStatus,
    /// Shortcuts, and opening things.
    pub desktop: DesktopService,
    /// Custom nodes of versions.
    pub nodes: NodeService,
    /// Brings models from the hub.
    pub downloads: DownloadService,
    /// What differs between apps.
    pub apps: Arc<Apps>,
    /// Versions of apps.
    pub versions: VersionService,
    /// Brings the launcher itself forward.
    pub updates: UpdateService,
    /// Asked for by a caller who wants the whole program to end.
    pub stop: Stop,
}

impl PumasApi {
    /// Connect the services of all domains. Touches no disk: [`PumasApi::open`] does.
    pub fn new(root: impl Into<PathBuf>) -> Result<Self> {
        let root: PathBuf = root.into();
        let layout = Arc::new(Layout::new(&root));
        let events = EventStream::new();
        let troubles = Arc::new(Troubles::default());
        let jobs = JobService::new(JobStore::new(&layout, Arc::clone(&troubles))?, events.clone());
        let registry = Arc::new(LinkStore::new(&layout, &troubles)?);
        let keeper = LinkKeeper::new(&layout, &registry);
        let companions = Arc::new(keeper.clone());
        let library = LibraryService::new(&layout, events.clone(), &troubles, &jobs, companions);
        let adoption = AdoptionService::new(&layout, library.parts.clone(), &jobs, &troubles)?;
        let network = NetworkService::new(&layout, events.clone(), &troubles)?;
        let hub = HubService::new(&layout, network.client.clone(), library.clone(), &jobs)?;
        let downloads = DownloadService::new(
            &layout,
            events.clone(),
            &troubles,
            &jobs,
            library.parts.clone(),
            network.client.clone(),
            hub.client.clone(),
        );
        let loading = downloads.clone();
        hub.ask_room(Box::new(move || loading.room()));
        let apps = Arc::new(Apps::new(&layout, Arc::clone(&troubles)));
        let versions = VersionService::new(
            &layout,
            &apps,
            &troubles,
            events.clone(),
            &jobs,
            network.client.clone(),
            downloads.bandwidth(),
        );
        let installed: Arc<dyn Installed> = Arc::new(versions.clone());
        let links = LinkService::new(
            &layout,
            LinkParts {
                apps: Arc::clone(&apps),
                installed: Arc::clone(&installed),
                catalog: library.catalog.clone(),
                jobs: jobs.clone(),
                events: events.clone(),
                store: registry,
                keeper: keeper.clone(),
            },
        );
        let nodes = NodeService::new(
            &layout,
            NodeParts {
                apps: Arc::clone(&apps),
                installed: Arc::clone(&installed),
                jobs: jobs.clone(),
                requirements: Arc::new(NodePackages::new(&layout)),
            },
        );
        let desktop = DesktopService::new(&layout, Arc::clone(&installed));
        let processes = ProcessService::new(&layout, events.clone(), &troubles, &apps, versions.clone());
        let patching = Patching::new(Arc::clone(&installed));
        let apps_status = AppsStatus::new(
            processes.clone(),
            versions.clone(),
            desktop.clone(),
            patching.clone(),
        );
        follow_versions(&versions, &apps, &keeper, &links, &nodes, &desktop);
        follow_runs(&versions, &processes, &patching, &desktop);
        let updates = UpdateService::new(&layout, &jobs, network.client.clone());
        Ok(Self {
            layout,
            events,
            troubles,
            jobs,
            library,
            adoption,
            network,
            hub,
            links,
            processes,
            patching,
            apps_status: apps_status.clone(),
            desktop,
            nodes,
            downloads,
            apps,
            versions,
            updates,
            system: Arc::new(SystemService::new(root, Some(Arc::new(apps_status)))),
            stop: Stop::default(),
        })
    }

    /// Open what the services need. A domain that cannot be opened is reported in [`PumasApi::troubles`], and the others
    /// work.
    pub async fn open(&self) {
        let layout = Arc::clone(&self.layout);
        let swept = blocking(move || {
            remove_leftovers(&layout);
            Ok(())
        });
        self.opened("launcher-data", swept.await);
        self.opened("jobs.db", self.jobs.open().await);
        self.opened("library", self.library.open().await);
        self.opened("links", self.links.open().await);
        self.opened("adoption", self.adoption.open().await);
        self.opened("network", self.network.open().await);
        self.opened("downloads", self.downloads.open().await);
        self.opened("versions", self.versions.open().await);
        self.opened("links", self.links.go_on().await);
        self.opened("custom nodes", self.nodes.open().await);
        self.opened("processes", self.processes.open().await);
        self.opened("launcher update", self.updates.open().await);
    }

    fn opened(&self, name: &str, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.troubles.report(name, error.kind(), &error.to_string());
            tracing::error!("{name}: {error}");
        }
    }

    /// Park what runs. Calls that are under way still find their files.
    pub async fn close(&self) {
        // Jobs are told first, so that one whose connection then ends knows why.
        let unplug = async { self.network.close() };
        tokio::join!(
            self.processes.close(),
            self.jobs.close(),
            unplug,
            self.system.close()
        );
        self.downloads.close();
        self.versions.close();
        self.library.close().await;
    }

    /// Close the files, last of all. Blocks for a moment.
    pub fn close_files_sync(&self) {
        self.jobs.close_files_sync();
        self.hub.close_files_sync();
        self.links.close_files_sync();
        self.adoption.close_files_sync();
    }
}
