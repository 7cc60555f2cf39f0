//! What turns a request into a build context.

mod context;
pub mod dockerfile;
pub mod extend;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use context::Context;
pub(crate) use context::has_dockerfile;

/// What a Dockerfile is called unless its caller says otherwise.
pub const DOCKERFILE: &str = "Dockerfile";

/// The runtimes whose images can be extended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Python: `requirements.txt`.
    Python,
    /// Node.js: `package.json`.
    Nodejs,
    /// PHP: `composer.json`.
    Php,
    /// Java: `pom.xml`.
    Java,
    /// Go: `go.mod`.
    Go,
    /// Ruby: `Gemfile`.
    Ruby,
    /// .NET: `project.json`, a format that no current tool reads.
    Dotnet,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] = [Self::Python, Self::Nodejs, Self::Php, Self::Java, Self::Go, Self::Ruby, Self::Dotnet];

    /// The kind of that name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Its name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Nodejs => "nodejs",
            Self::Php => "php",
            Self::Java => "java",
            Self::Go => "go",
            Self::Ruby => "ruby",
            Self::Dotnet => "dotnet",
        }
    }

    /// The name of its requirements file.
    #[must_use]
    pub fn requirements(self) -> &'static str {
        match self {
            Self::Python => "requirements.txt",
            Self::Nodejs => "package.json",
            Self::Php => "composer.json",
            Self::Java => "pom.xml",
            Self::Go => "go.mod",
            Self::Ruby => "Gemfile",
            Self::Dotnet => "project.json",
        }
    }

    /// All names, for people.
    #[must_use]
    pub fn words() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}
