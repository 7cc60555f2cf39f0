//! `[bases]`, `[steps]` and `[sizes]`: what builds may be based on, what their steps are given, and how much of it.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

use kiln_backends::Limits;
use serde::Deserialize;

use super::time::optional_duration;

/// Which base images callers may build on, beyond their own repositories.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bases {
    /// Registries that anybody may build on.
    pub public: Vec<String>,
    /// Further images: patterns over `host/repository`, and for whom.
    pub shared: Vec<SharedBase>,
    /// Permits every base. Only for installations with a single tenant.
    pub any: bool,
}

/// Images shared by configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedBase {
    /// A pattern over `host/repository` in which `*` stands for any characters.
    pub pattern: String,
    /// The users who may build on them; empty is everybody.
    #[serde(default)]
    pub owners: Vec<String>,
}

/// What build steps are given.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Steps {
    /// CA certificates, PEM, that steps trust beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// `HTTP_PROXY` of steps.
    pub http_proxy: Option<String>,
    /// `HTTPS_PROXY` of steps.
    pub https_proxy: Option<String>,
    /// `NO_PROXY` of steps.
    pub no_proxy: Option<String>,
}

/// The size classes that a build may ask for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sizes {
    /// The class of a build that asks for none.
    pub default: String,
    /// The classes by name.
    pub classes: BTreeMap<String, Size>,
}

/// What each step of a build of one class may use; what isn't set isn't bounded.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Size {
    /// Memory of a step, bytes, where the engine can enforce it.
    pub memory: Option<NonZeroU64>,
    /// Thousandths of a processor, where the engine can enforce it.
    pub cpu_millis: Option<NonZeroU32>,
    /// Processes of a step, where the engine can enforce it.
    pub processes: Option<NonZeroU32>,
    /// Disk of the whole build, bytes, where it has an engine of its own.
    pub storage: Option<NonZeroU64>,
    /// How long one step may take.
    #[serde(deserialize_with = "optional_duration")]
    pub step_deadline: Option<Duration>,
}

impl Size {
    /// What bounds a build of this class that may take so long.
    #[must_use]
    pub fn limits(&self, deadline: Duration) -> Limits {
        Limits {
            deadline,
            memory: self.memory.map(NonZeroU64::get),
            cpu_millis: self.cpu_millis.map(NonZeroU32::get),
            processes: self.processes.map(NonZeroU32::get),
            storage: self.storage.map(NonZeroU64::get),
            step_deadline: self.step_deadline,
        }
    }
}

impl Sizes {
    /// The class that a build asks for, or the default one.
    #[must_use]
    pub fn get(&self, name: Option<&str>) -> Option<&Size> {
        self.classes.get(name.unwrap_or(&self.default))
    }

    /// The names of the classes, for people.
    #[must_use]
    pub fn names(&self) -> String {
        self.classes.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl Default for Sizes {
    fn default() -> Self {
        let default = "standard".to_owned();
        Self { classes: BTreeMap::from([(default.clone(), Size::default())]), default }
    }
}

impl Default for Bases {
    fn default() -> Self {
        let public =
            ["docker.io", "ghcr.io", "quay.io", "gcr.io", "mcr.microsoft.com", "public.ecr.aws", "registry.k8s.io"];
        Self { public: public.map(str::to_owned).to_vec(), shared: Vec::new(), any: false }
    }
}
