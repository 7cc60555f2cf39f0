//! Docker's `config.json` as a source of credentials, with its helper programs.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    time::timeout,
};

use super::{credentials::Credential, host::Host};

/// How Docker's tools name Docker Hub.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// A helper may ask a keychain or a cloud; longer than this it hangs.
const HELPER_DEADLINE: Duration = Duration::from_secs(10);

/// Far more than any credential.
const HELPER_OUTPUT: u64 = 64 * 1024;

/// What helpers print when they have nothing for the host (docker-credential-helpers, `credentials/error.go`).
const HELPER_HAS_NONE: &str = "credentials not found in native keychain";

/// The user name under which helpers return an identity token.
const HELPER_TOKEN_USER: &str = "<token>";

/// The operator's credential can't be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file can't be read.
    #[error("{path} can't be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file isn't Docker's `config.json`. (What the parser says isn't repeated: it may quote a secret.)
    #[error("{path} is no Docker config.json (line {line})")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
    },
    /// The file has no `user:password`.
    #[error("{path} doesn't contain user:password")]
    NoPair {
        /// The file.
        path: PathBuf,
    },
    /// An entry of `config.json` has no usable name and password.
    #[error("the entry for {host} in Docker's config.json is neither user:password in base64 nor a token")]
    Entry {
        /// The registry.
        host: Host,
    },
    /// A credential helper failed. Its output isn't repeated: it may be half a secret.
    #[error("docker-credential-{name} failed for {host}: {cause}")]
    Helper {
        /// The helper, without `docker-credential-`.
        name: String,
        /// The registry.
        host: Host,
        /// What happened.
        cause: String,
    },
}

/// What of `config.json` is about credentials.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DockerConfig {
    auths: HashMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: HashMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<SecretString>,
    username: Option<String>,
    password: Option<SecretString>,
    identitytoken: Option<SecretString>,
}

/// What a helper prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: SecretString,
}

impl DockerConfig {
    /// Reads the file, or `config.json` in the folder.
    pub(super) async fn read(path: &Path) -> Result<Self, CredentialError> {
        let folder = path.is_dir();
        let path = if folder { path.join("config.json") } else { path.to_owned() };
        let bytes = match tokio::fs::read(&path).await {
            Ok(bytes) => bytes,
            // As Docker has it: a folder without the file is one where nobody has logged in yet.
            Err(error) if folder && error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(CredentialError::Unreadable { path, source }),
        };
        serde_json::from_slice(&bytes).map_err(|error| CredentialError::Syntax { path, line: error.line() })
    }

    /// What the text says itself: programs that it names aren't run for it.
    pub(super) fn of_auths(text: &[u8]) -> Option<Self> {
        let Self { auths, .. } = serde_json::from_slice(text).ok()?;
        Some(Self { auths, ..Self::default() })
    }

    /// The credential for `host`: its own helper, else the store, else what the file itself has.
    pub(super) async fn credential(&self, host: &Host) -> Result<Option<Credential>, CredentialError> {
        if let Some((key, name)) = self.cred_helpers.iter().find(|(key, _)| names(key, host)) {
            return ask_helper(name, key, host).await;
        }
        if let Some(name) = self.creds_store.as_deref().filter(|name| !name.is_empty()) {
            let key = if host.is_docker_hub() { DOCKER_HUB_KEY } else { host.as_str() };
            if let Some(credential) = ask_helper(name, key, host).await? {
                return Ok(Some(credential));
            }
        }
        let entry = self.auths.iter().find(|(key, _)| names(key, host)).map(|(_, entry)| entry);
        entry.map_or(Ok(None), |entry| entry.credential(host))
    }
}

impl Entry {
    fn credential(&self, host: &Host) -> Result<Option<Credential>, CredentialError> {
        if let Some(token) = self.identitytoken.as_ref().filter(|token| !token.expose_secret().is_empty()) {
            return Ok(Some(Credential::IdentityToken(token.clone())));
        }
        if let (Some(username), Some(password)) = (&self.username, &self.password) {
            return Ok(Some(Credential::Password { username: username.clone(), password: password.clone() }));
        }
        // `docker login` with a store leaves empty entries behind.
        let Some(auth) = self.auth.as_ref().filter(|auth| !auth.expose_secret().is_empty()) else { return Ok(None) };
        let pair = STANDARD.decode(auth.expose_secret()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = pair.map(SecretString::from);
        // Docker's own writer ends the pair with NULs at times.
        let parsed = pair.and_then(|pair| Credential::from_pair(pair.expose_secret().trim_end_matches('\0')));
        parsed.map(Some).ok_or_else(|| CredentialError::Entry { host: host.clone() })
    }
}

/// Whether a key of `config.json` names `host`. A key with a path below the registry's API names a
/// part of it, so isn't for the whole.
fn names(key: &str, host: &Host) -> bool {
    let rest = key.strip_prefix("https://").or(key.strip_prefix("http://")).unwrap_or(key);
    let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
    matches!(path, "" | "v1" | "v1/" | "v2" | "v2/") && Host::parse(name).is_ok_and(|named| named == *host)
}

/// Runs `docker-credential-<name> get`, which reads the key and prints the credential.
async fn ask_helper(name: &str, key: &str, host: &Host) -> Result<Option<Credential>, CredentialError> {
    let failed =
        |cause: &str| CredentialError::Helper { name: name.to_owned(), host: host.clone(), cause: cause.into() };
    // The name becomes part of a program's name: a separator would reach any program of the machine.
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err(failed("its name may have a-z, 0-9 and - only"));
    }
    let run = async {
        let mut helper = Command::new(format!("docker-credential-{name}"))
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = helper.stdin.take() {
            stdin.write_all(key.as_bytes()).await?;
        }
        let mut output = String::new();
        if let Some(stdout) = helper.stdout.take() {
            stdout.take(HELPER_OUTPUT).read_to_string(&mut output).await?;
        }
        Ok::<_, io::Error>((helper.wait().await?, SecretString::from(output)))
    };
    let (status, output) = match timeout(HELPER_DEADLINE, run).await {
        Err(_) => return Err(failed("it didn't answer in time")),
        Ok(Err(error)) => return Err(failed(&error.to_string())),
        Ok(Ok(done)) => done,
    };
    let output = output.expose_secret();
    if !status.success() {
        return if output.contains(HELPER_HAS_NONE) { Ok(None) } else { Err(failed(&status.to_string())) };
    }
    let answer: HelperAnswer = serde_json::from_str(output).map_err(|_| failed("it printed something else"))?;
    Ok(match answer {
        HelperAnswer { secret, .. } if secret.expose_secret().is_empty() => None,
        HelperAnswer { username, secret } if username == HELPER_TOKEN_USER => Some(Credential::IdentityToken(secret)),
        HelperAnswer { username, secret } => Some(Credential::Password { username, password: secret }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn look_up(config: &str, host: &str) -> String {
        let config: DockerConfig = serde_json::from_str(config).unwrap();
        match config.credential(&Host::parse(host).unwrap()).await {
            Ok(None) => "none".to_owned(),
            Ok(Some(Credential::Password { username, password })) => format!("{username}:{}", password.expose_secret()),
            Ok(Some(Credential::IdentityToken(token))) => format!("token {}", token.expose_secret()),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn entries_are_found_by_every_name_of_their_host_and_by_no_other() {
        let pair = STANDARD.encode("kiln:p:ss");
        for (key, host, found) in [
            ("https://index.docker.io/v1/", "docker.io", true),
            ("docker.io", "docker.io", true),
            ("http://nuvolaris-registry-svc:5000", "nuvolaris-registry-svc:5000", true),
            ("reg.example/v2/", "reg.example", true),
            ("reg.example", "reg.example:443", false),
            ("reg.example/team", "reg.example", false),
            ("https://reg.example.evil", "reg.example", false),
        ] {
            let config = format!(r#"{{"auths":{{"{key}":{{"auth":"{pair}"}}}}}}"#);
            let expected = if found { "kiln:p:ss" } else { "none" };
            assert_eq!(look_up(&config, host).await, expected, "{key} for {host}");
        }
    }

    #[tokio::test]
    async fn entries_have_their_forms() {
        for (entry, expected) in [
            (r#"{"username":"a","password":"b:c"}"#, "a:b:c"),
            (r#"{"auth":"YTpiAA=="}"#, "a:b"),
            (r#"{"auth":"YTpi","identitytoken":"t"}"#, "token t"),
            ("{}", "none"),
            (
                r#"{"auth":"!"}"#,
                "the entry for r in Docker's config.json is neither user:password in base64 nor a token",
            ),
        ] {
            assert_eq!(look_up(&format!(r#"{{"auths":{{"r":{entry}}}}}"#), "r").await, expected);
        }
    }

    #[tokio::test]
    async fn a_folder_without_the_file_has_no_credentials_and_a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::parse("r").unwrap();
        let config = DockerConfig::read(folder.path()).await.unwrap();
        assert!(config.credential(&host).await.unwrap().is_none());
        std::fs::write(folder.path().join("config.json"), r#"{"auths":{"r":{"auth":"canary"}},,}"#).unwrap();
        let error = DockerConfig::read(folder.path()).await.err().unwrap().to_string();
        assert!(error.ends_with("is no Docker config.json (line 1)") && !error.contains("canary"), "{error}");
        assert!(DockerConfig::read(&folder.path().join("missing")).await.is_err());
    }

    #[tokio::test]
    async fn a_helpers_name_is_never_a_path() {
        for name in ["../evil", "a/b", "A", "a b", "a;b", "a$(id)"] {
            let answer = look_up(&format!(r#"{{"credHelpers":{{"r":"{name}"}}}}"#), "r").await;
            assert!(answer.ends_with("its name may have a-z, 0-9 and - only"), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_missing_helper_is_an_error_not_an_anonymous_push() {
        let answer = look_up(r#"{"credsStore":"kiln-there-is-none"}"#, "r").await;
        assert!(answer.starts_with("docker-credential-kiln-there-is-none failed for r:"), "{answer}");
    }
}
