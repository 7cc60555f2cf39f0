//! Platforms of images: `os/architecture[/variant]`.

use std::{fmt, str::FromStr};

/// A platform, such as `linux/arm64/v8`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Platform {
    /// The operating system, as Go names it.
    pub os: String,
    /// The processor architecture, as Go names it.
    pub architecture: String,
    /// The architecture's variant.
    pub variant: Option<String>,
}

/// The text is no platform.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no platform: a platform is os/architecture[/variant], such as linux/arm64")]
pub struct InvalidPlatform(String);

impl Platform {
    /// Linux on the processor that Kiln itself runs on.
    #[must_use]
    pub fn native() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// Whether an image for `self` is what `wanted` asks for. A variant that isn't asked for doesn't matter.
    #[must_use]
    pub fn satisfies(&self, wanted: &Self) -> bool {
        let variants_agree = match (&wanted.variant, &self.variant) {
            (None, _) => true,
            // The one variant of this architecture is often left out.
            (Some(wanted), None) => wanted == "v8" && self.architecture == "arm64",
            (Some(wanted), Some(variant)) => wanted == variant,
        };
        self.os == wanted.os && self.architecture == wanted.architecture && variants_agree
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_word = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            [os, architecture] | [os, architecture, _] if parts.iter().all(is_word) => Ok(Self {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                variant: parts.get(2).map(|&variant| variant.to_owned()),
            }),
            _ => Err(InvalidPlatform(text.chars().take(100).collect())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_matters_only_where_it_is_asked_for() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        for (has, wanted, fits) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm/v6", "linux/arm/v7", false),
            ("linux/arm", "linux/arm/v7", false),
            ("windows/amd64", "linux/amd64", false),
        ] {
            assert_eq!(platform(has).satisfies(&platform(wanted)), fits, "{has} for {wanted}");
        }
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for text in ["", "linux", "linux/", "linux/amd64/v2/x", "Linux/amd64", "linux/amd64,x=y", "linux /amd64"] {
            assert!(text.parse::<Platform>().is_err(), "{text:?}");
        }
        assert_eq!("linux/arm/v7".parse::<Platform>().unwrap().to_string(), "linux/arm/v7");
    }
}
