//! The parts of the Engine API that a build needs: what the engine is, and its local tags.

use bollard::{
    API_DEFAULT_VERSION, Docker,
    query_parameters::{ListImagesOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder},
};

use crate::{
    EngineError,
    buildkit::{Address, causes},
};

/// The oldest engine that is accepted. Its BuildKit, 0.12, obeys a source policy.
const FLOOR: &str = "24.0";
/// For an answer to begin.
const ANSWER_SECONDS: u64 = 30;

/// A connected engine.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) api: Docker,
    host: Address,
}

/// Where an engine keeps images.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Store {
    /// containerd's: BuildKit pushes from it, by digest.
    Containerd,
    /// A graph driver's (overlay2 and the like): only the Engine pushes from it, by tag.
    GraphDriver,
}

impl Engine {
    /// Connects and agrees on the API's version.
    pub(super) async fn connect(host: &Address) -> Result<Self, EngineError> {
        let connected = match host {
            Address::Unix(path) => {
                Docker::connect_with_unix(&path.to_string_lossy(), ANSWER_SECONDS, API_DEFAULT_VERSION)
            }
            Address::Tcp(authority) => Docker::connect_with_http(authority, ANSWER_SECONDS, API_DEFAULT_VERSION),
        };
        let unreachable = |e: bollard::errors::Error| EngineError::Unreachable {
            endpoint: format!("the Docker Engine at {host}"),
            cause: causes(&e),
        };
        let api = connected.map_err(unreachable)?.negotiate_version().await.map_err(unreachable)?;
        Ok(Self { api, host: host.clone() })
    }

    /// Its version.
    pub(super) async fn version(&self) -> Result<String, EngineError> {
        let version = self.api.version().await.map_err(|e| self.error(&e))?.version.unwrap_or_default();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < 24) {
            return Err(EngineError::TooOld { engine: "Docker Engine", found: version, floor: FLOOR });
        }
        Ok(version)
    }

    /// Where it keeps images.
    pub(super) async fn store(&self) -> Result<Store, EngineError> {
        let info = self.api.info().await.map_err(|e| self.error(&e))?;
        let snapshotter =
            info.driver_status.unwrap_or_default().iter().flatten().any(|s| s.starts_with("io.containerd"));
        Ok(if snapshotter { Store::Containerd } else { Store::GraphDriver })
    }

    /// The local tags that begin with `repository:`.
    pub(super) async fn tags_of(&self, repository: &str) -> Result<Vec<String>, EngineError> {
        let filters = [("reference".to_owned(), vec![repository.to_owned()])].into();
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        let images = self.api.list_images(Some(options)).await.map_err(|e| self.error(&e))?;
        let prefix = format!("{repository}:");
        let tags = images.into_iter().flat_map(|image| image.repo_tags);
        Ok(tags.filter(|tag| tag.starts_with(&prefix)).collect())
    }

    /// Gives an image another local name.
    pub(super) async fn tag(&self, image: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
        let options = TagImageOptionsBuilder::new().repo(repository).tag(tag).build();
        self.api.tag_image(image, Some(options)).await.map_err(|e| self.error(&e))
    }

    /// Removes a local name, and with the last one the image; one that is gone is no error.
    pub(super) async fn untag(&self, image: &str) -> Result<(), EngineError> {
        let options = RemoveImageOptionsBuilder::new().build();
        match self.api.remove_image(image, Some(options), None).await {
            Ok(_) | Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(e) => Err(self.error(&e)),
        }
    }

    fn error(&self, error: &bollard::errors::Error) -> EngineError {
        EngineError::Protocol(format!("{} at {}", causes(error), self.host))
    }
}
