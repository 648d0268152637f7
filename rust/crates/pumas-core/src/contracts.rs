//! The contract's data, put into the program when it is built. Nothing of it stands in code.

/// What each method takes and answers: <https://spec.open-rpc.org>.
pub const OPENRPC: &str = include_str!("../../../../contracts/openrpc.json");
/// How a method's value becomes its reply, and how a failure does.
pub const RESPONSE_WRAPPERS: &str = include_str!("../../../../contracts/response_wrappers.json");
/// kind -> code and description.
pub const ERRORS: &str = include_str!("../../../../contracts/errors.json");

/// The apps that come along, by the names of their files.
pub const APPS: [(&str, &str); 3] = [
    (
        "comfyui.json",
        include_str!("../../../../contracts/apps/comfyui.json"),
    ),
    (
        "llamacpp.json",
        include_str!("../../../../contracts/apps/llamacpp.json"),
    ),
    (
        "ollama.json",
        include_str!("../../../../contracts/apps/ollama.json"),
    ),
];

/// Headers and content types of the page for browsers.
pub const PAGE: &str = include_str!("../../../../contracts/page.json");

/// What both backends know by table: kinds of models and how files name them, for `library::formats`, how git is called,
/// for `nodes`, and the topics of events.
pub mod tables {
    /// Families and types of architectures.
    pub const FAMILIES: &str = include_str!("../../../../contracts/tables/families.json");
    /// What git is told at every call, so that no setting of the user or the machine counts.
    pub const GIT: &str = include_str!("../../../../contracts/tables/git.json");
    /// How names tell a quantisation.
    pub const QUANTIZATIONS: &str = include_str!("../../../../contracts/tables/quantizations.json");
    /// Which fragments in tensor names mean which kind of model.
    pub const TENSOR_NAMES: &str = include_str!("../../../../contracts/tables/tensor_names.json");
    /// What `/events` tells of.
    pub const TOPICS: &str = include_str!("../../../../contracts/tables/topics.json");
}

/// The schemas of the SQLite files; each ends with its `PRAGMA user_version`.
pub mod schema {
    /// `launcher-data/adoptions.db`
    pub const ADOPTIONS: &str = include_str!("../../../../contracts/schema/adoptions.sql");
    /// `launcher-data/cache/hub.db`
    pub const HUB: &str = include_str!("../../../../contracts/schema/hub.sql");
    /// `launcher-data/jobs.db`
    pub const JOBS: &str = include_str!("../../../../contracts/schema/jobs.sql");
    /// `shared-resources/models/link_registry.db`
    pub const LINK_REGISTRY: &str = include_str!("../../../../contracts/schema/link_registry.sql");
    /// `shared-resources/models/models.db`
    pub const MODELS: &str = include_str!("../../../../contracts/schema/models.sql");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_app_is_left_out() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../contracts/apps");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, APPS.map(|(name, _)| name));
    }

    #[test]
    fn the_errors_are_those_of_the_enum() {
        let table: serde_json::Map<String, serde_json::Value> = serde_json::from_str(ERRORS).unwrap();
        for error in [
            crate::Error::PlanOutdated,
            crate::Error::Busy(String::new()),
            crate::Error::TokenRefused,
        ] {
            assert!(table.contains_key(error.kind()));
        }
    }
}
