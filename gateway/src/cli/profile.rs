//! `kiln login` and `kiln logout`: where one's gateway is and as whom one asks it, kept for the verbs that follow.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::{Deserialize, Serialize};

use super::{
    builds::{Caller, finish, json},
    client::{Client, ClientArgs, Trouble},
    exit,
    follow::{harmless, say},
};

/// A token on standard input may be as long as a request's header.
const TOKEN_AT_MOST: u64 = 64 << 10;

#[derive(Debug, clap::Args)]
pub(crate) struct LogoutArgs {
    /// Which one to forget
    #[arg(long, env = "KILN_PROFILE", default_value = DEFAULT)]
    profile: String,
}

/// The profile that counts unless another is named.
pub(crate) const DEFAULT: &str = "default";

/// A gateway, and the token for it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    pub(crate) url: String,
    pub(crate) token: String,
}

/// The profiles of the user of this machine, by name.
pub(crate) struct Profiles {
    path: PathBuf,
    all: BTreeMap<String, Profile>,
}

/// Asks for the token, sees that the gateway takes it, and keeps both.
pub(crate) async fn login(client: ClientArgs) -> ExitCode {
    finish(async {
        let mut profiles = Profiles::load()?;
        let known = profiles.get(&client.profile).map(|profile| profile.url.clone());
        let url = client.url(known.as_deref());
        let token = match &client.token {
            Some(token) => token.clone(),
            None => ask(&url)?,
        };
        let profile = Profile { url, token };
        let caller: Caller = Client::new(&profile.url, &profile.token)?.get("/v1/whoami").await?;
        let said = format!("{} at {}", caller.user, profile.url);
        profiles.all.insert(client.profile.clone(), profile);
        profiles.save()?;
        say(&if client.json { json(&caller) } else { harmless(&said) });
        Ok(ExitCode::SUCCESS)
    })
    .await
}

/// Forgets a profile.
pub(crate) async fn logout(args: LogoutArgs) -> ExitCode {
    finish(async {
        let mut profiles = Profiles::load()?;
        if profiles.all.remove(&args.profile).is_none() {
            let text = format!("{} has no profile {:?}", profiles.path.display(), args.profile);
            return Err(Trouble::new(exit::USAGE, text));
        }
        profiles.save()?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}

/// The token, from the terminal without showing it, or from what is piped in.
fn ask(url: &str) -> Result<String, Trouble> {
    let unread = |error: io::Error| Trouble::new(exit::USAGE, format!("no token: {error}"));
    let typed = if io::stdin().is_terminal() {
        rpassword::prompt_password(format!("Token for {}: ", harmless(url))).map_err(unread)?
    } else {
        let mut line = String::new();
        io::stdin().lock().take(TOKEN_AT_MOST).read_line(&mut line).map_err(unread)?;
        line
    };
    let token = typed.trim();
    if token.is_empty() {
        return Err(Trouble::new(exit::USAGE, "no token: it is read from the terminal, or from standard input"));
    }
    Ok(token.to_owned())
}

impl Profiles {
    /// Those of `kiln/profiles.toml` in the user's folder of configuration: `XDG_CONFIG_HOME`, else `~/.config`.
    pub(crate) fn load() -> Result<Self, Trouble> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
        // Whoever has no home has no profile either, and says all at each call.
        let Some(config) = config else { return Ok(Self { path: PathBuf::new(), all: BTreeMap::new() }) };
        let path = config.join("kiln/profiles.toml");
        let all = read(&path).map_err(|error| Trouble::new(exit::USAGE, format!("{}: {error}", path.display())))?;
        Ok(Self { path, all })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Profile> {
        self.all.get(name)
    }

    /// Writes them whole or not at all, for nobody else to read.
    fn save(&self) -> Result<(), Trouble> {
        let wrong = |error: io::Error| Trouble::new(1, format!("the profile can't be kept: {error}"));
        let none = || wrong(io::Error::other("set HOME or XDG_CONFIG_HOME"));
        let folder = self.path.parent().ok_or_else(none)?;
        let text = toml::to_string(&self.all).map_err(|error| wrong(io::Error::other(error)))?;
        let written = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            // Temporary files are their owner's alone.
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.persist(&self.path)?;
            Ok(())
        };
        written().map_err(wrong)
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Profile>, String> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.to_string()),
    };
    let mode = file.metadata().map_err(|error| error.to_string())?.mode();
    if mode & 0o077 != 0 {
        return Err(
            "holds tokens, and others may open it: chmod 600, or kiln login once more after removing it".to_owned()
        );
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|error| error.to_string())?;
    // The parser's own message would show the line, and the token in it.
    toml::from_str(&text).map_err(|error: toml::de::Error| error.message().to_owned())
}
