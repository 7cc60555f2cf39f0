//! Manifests, indexes and configurations, as far as Kiln reads them: strict about digests and types,
//! indifferent to all else.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use bytes::Bytes;
use serde::{Deserialize, Deserializer};

use super::{base::BaseConfig, platform::Platform, reference::is_sha256};

/// What Kiln asks manifests as.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// A manifest as it was read: the bytes are what its digest is over.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) bytes: Bytes,
    pub(crate) media_type: String,
    pub(crate) digest: String,
}

/// What of a manifest matters here.
#[derive(Debug)]
pub(super) enum Manifest {
    /// Several images, by platform.
    Index(Vec<(Platform, String)>),
    /// One image, with the digest of its configuration.
    Image { config: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Layer>,
}

/// Where an engine would fetch a layer from: only from its own registry, if it is to be built on.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    #[serde(default, deserialize_with = "null_is_default")]
    urls: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    #[serde(default, deserialize_with = "null_is_default")]
    urls: Vec<String>,
    #[serde(default)]
    platform: Option<DescriptorPlatform>,
}

#[derive(Deserialize)]
struct DescriptorPlatform {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

#[derive(Deserialize)]
struct Configuration {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    config: ContainerConfig,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct ContainerConfig {
    #[serde(deserialize_with = "null_is_default")]
    user: String,
    #[serde(deserialize_with = "null_is_default")]
    working_dir: String,
    #[serde(deserialize_with = "null_is_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    on_build: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    labels: BTreeMap<String, String>,
}

/// `sha256:…` of some bytes.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    digest::digest(&digest::SHA256, bytes).as_ref().iter().fold("sha256:".to_owned(), |mut text, byte| {
        // Writing to a string doesn't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Manifest {
    /// Reads a manifest. The error is the sentence's end "… is invalid:".
    pub(super) fn read(raw: &Raw) -> Result<Self, String> {
        let document: Document =
            serde_json::from_slice(&raw.bytes).map_err(|error| format!("it is no manifest: {error}"))?;
        // A document that says what it is must agree with the header it came under, or the engine may read it otherwise.
        if let Some(own) = document.media_type.as_ref().filter(|own| **own != raw.media_type) {
            return Err(format!("it calls itself {own:?} and came as {:?}", raw.media_type));
        }
        if INDEXES.contains(&raw.media_type.as_str()) {
            let images = document.manifests.into_iter().filter_map(|descriptor| {
                // Attestations lie in indexes as images of the platform unknown/unknown.
                let platform = descriptor.platform.filter(|p| p.os != "unknown" && p.architecture != "unknown")?;
                let fits = descriptor.urls.is_empty()
                    && is_sha256(&descriptor.digest)
                    && MANIFESTS.contains(&descriptor.media_type.as_str());
                fits.then_some((Platform::from(platform), descriptor.digest))
            });
            return Ok(Self::Index(images.collect()));
        }
        if !MANIFESTS.contains(&raw.media_type.as_str()) {
            return Err(format!("{:?} is no image manifest that Kiln knows", raw.media_type));
        }
        let config = document.config.ok_or("it has no configuration")?;
        if !CONFIGS.contains(&config.media_type.as_str()) {
            return Err(format!("it is no container image: its configuration is {:?}", config.media_type));
        }
        if !is_sha256(&config.digest) {
            return Err("its configuration has no SHA-256 digest".to_owned());
        }
        // Engines fetch such layers from wherever their URLs say, the engine's own network included.
        let elsewhere = |layer: &Layer| {
            let foreign = layer.media_type.contains("foreign") || layer.media_type.contains("nondistributable");
            foreign || !layer.urls.is_empty()
        };
        if document.layers.iter().any(elsewhere) || !config.urls.is_empty() {
            return Err("a part of it lies outside of its registry".to_owned());
        }
        Ok(Self::Image { config: config.digest })
    }
}

impl BaseConfig {
    /// Reads an image's configuration.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let read: Configuration =
            serde_json::from_slice(bytes).map_err(|error| format!("it is no configuration: {error}"))?;
        let config = read.config;
        Ok(Self {
            user: config.user,
            workdir: config.working_dir,
            env: config.env,
            onbuild: config.on_build,
            labels: config.labels,
            os: read.os,
            architecture: read.architecture,
            variant: read.variant.filter(|variant| !variant.is_empty()),
        })
    }

    /// The platform that the image is made for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform { os: self.os.clone(), architecture: self.architecture.clone(), variant: self.variant.clone() }
    }
}

impl From<DescriptorPlatform> for Platform {
    fn from(platform: DescriptorPlatform) -> Self {
        let variant = platform.variant.filter(|variant| !variant.is_empty());
        Self { os: platform.os, architecture: platform.architecture, variant }
    }
}

/// Go writes empty lists and maps as `null`.
fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(media_type: &str, text: String) -> Raw {
        Raw { digest: digest_of(text.as_bytes()), bytes: text.into(), media_type: media_type.to_owned() }
    }

    #[test]
    fn an_index_yields_its_images_without_attestations() {
        let pin = digest_of(b"x");
        let entry = |os: &str, architecture: &str| {
            let platform = format!(r#"{{"os":"{os}","architecture":"{architecture}"}}"#);
            format!(r#"{{"mediaType":"{}","digest":"{pin}","size":1,"platform":{platform}}}"#, MANIFESTS[0])
        };
        let text = format!(r#"{{"manifests":[{},{}]}}"#, entry("linux", "amd64"), entry("unknown", "unknown"));
        let Ok(Manifest::Index(images)) = Manifest::read(&raw(INDEXES[0], text)) else { panic!("an index") };
        assert_eq!(images, [("linux/amd64".parse().unwrap(), pin)]);
    }

    #[test]
    fn what_is_no_image_is_refused_with_its_reason() {
        let config = |media_type: &str, digest: &str| {
            format!(r#"{{"config":{{"mediaType":"{media_type}","digest":"{digest}","size":1}},"layers":[]}}"#)
        };
        let layer = |layer: &str| {
            let digest = format!("sha256:{}", "0".repeat(64));
            let config = format!(r#"{{"mediaType":"{}","digest":"{digest}","size":1}}"#, CONFIGS[0]);
            format!(r#"{{"config":{config},"layers":[{{"digest":"{digest}","size":1,{layer}}}]}}"#)
        };
        let plain = r#""mediaType":"application/vnd.oci.image.layer.v1.tar+gzip""#;
        assert!(Manifest::read(&raw(MANIFESTS[0], layer(plain))).is_ok());
        let elsewhere = format!(r#"{plain},"urls":["http://127.0.0.1/"]"#);
        let foreign = r#""mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip""#;
        for (media_type, text, reason) in [
            (MANIFESTS[0], layer(&elsewhere), "a part of it lies outside"),
            (MANIFESTS[0], layer(foreign), "a part of it lies outside"),
            (MANIFESTS[0], "not json".to_owned(), "it is no manifest"),
            (MANIFESTS[0], "{}".to_owned(), "it has no configuration"),
            (MANIFESTS[0], format!(r#"{{"mediaType":"{}"}}"#, INDEXES[0]), "it calls itself"),
            (MANIFESTS[0], config("application/vnd.cncf.helm.config.v1+json", "x"), "it is no container image"),
            (MANIFESTS[0], config(CONFIGS[0], "sha256:../../x"), "its configuration has no SHA-256 digest"),
            ("application/vnd.docker.distribution.manifest.v1+prettyjws", "{}".to_owned(), "\"application/vnd.docker"),
        ] {
            let error = Manifest::read(&raw(media_type, text)).unwrap_err();
            assert!(error.starts_with(reason), "{error}");
        }
    }

    #[test]
    fn a_configuration_with_nulls_is_read() {
        let text = r#"{"os":"linux","architecture":"amd64","config":{"User":"nobody","OnBuild":null,"Env":["A=b"],"Labels":null}}"#;
        let config = BaseConfig::read(text.as_bytes()).unwrap();
        assert_eq!((config.user.as_str(), config.env.as_slice()), ("nobody", &["A=b".to_owned()][..]));
        assert!(BaseConfig::read(br#"{"os":"linux","architecture":"amd64","config":null}"#).is_ok());
        assert!(BaseConfig::read(b"[]").is_err());
    }
}
