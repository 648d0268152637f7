//! What one domain does when something happens in another. None of them knows the others.

use std::sync::Arc;

use crate::apps::{Apps, DEFAULT_APP};
use crate::desktop::DesktopService;
use crate::desktop::service::Chosen;
use crate::links::keeping::LinkKeeper;
use crate::links::service::LinkService;
use crate::nodes::NodeService;
use crate::processes::{Patching, ProcessService};
use crate::versions::{InstalledVersion, VersionService};

/// Versions that come get their links, those that are gone for good lose them; what is being worked on stays where it is.
pub(crate) fn follow_versions(
    versions: &VersionService,
    apps: &Arc<Apps>,
    keeper: &LinkKeeper,
    links: &LinkService,
    nodes: &NodeService,
    desktop: &DesktopService,
) {
    let asked = versions.clone();
    keeper.ask_removed(move |app_id, tag| asked.is_removed(app_id, tag).unwrap_or(false));
    let (known, linking) = (Arc::clone(apps), links.clone());
    let link_models = Arc::new(move |version: InstalledVersion| {
        let (known, linking) = (Arc::clone(&known), linking.clone());
        let work = async move {
            if known.get(&version.app_id)?.models.is_some() {
                linking.follow_version(version.app_id, version.tag).await?;
            }
            Ok(())
        };
        Box::pin(work) as futures_util::future::BoxFuture<'static, crate::Result<()>>
    });
    versions.installs.after(Arc::clone(&link_models) as _);
    versions.after_return(link_models);
    let forgetting = links.clone();
    versions.after_loss(Arc::new(move |app_id, tag| {
        let links = forgetting.clone();
        Box::pin(async move { links.forget_version(app_id, tag).await })
    }));
    let removing = desktop.clone();
    versions.after_removal(Arc::new(move |app_id: String, tag| {
        let desktop = removing.clone();
        Box::pin(async move {
            if app_id == DEFAULT_APP {
                desktop.remove(tag, Chosen::BOTH).await?;
            }
            Ok(())
        })
    }));
    let linking = links.clone();
    versions.ask_in_use(Box::new(move |app_id, tag| linking.works_on(app_id, tag)));
    let working = nodes.clone();
    versions.ask_in_use(Box::new(move |app_id, tag| working.works_on(app_id, tag)));
}

/// What runs is neither removed nor replaced; a server that is installed gets its title; pages are shown on the desktop.
pub(crate) fn follow_runs(
    versions: &VersionService,
    processes: &ProcessService,
    patching: &Patching,
    desktop: &DesktopService,
) {
    let running = processes.clone();
    versions.ask_in_use(Box::new(move |app_id, tag| running.runs(app_id, tag)));
    let patching = patching.clone();
    versions
        .installs
        .after(Arc::new(move |version: InstalledVersion| {
            let patching = patching.clone();
            Box::pin(async move {
                if version.app_id == DEFAULT_APP {
                    patching.patch(Some(version.tag)).await?;
                }
                Ok(())
            })
        }));
    let desktop = desktop.clone();
    processes.show_pages_by(Box::new(move |url, app_id, tag| {
        let desktop = desktop.clone();
        Box::pin(async move { desktop.open_app(url, app_id, tag).await })
    }));
}
