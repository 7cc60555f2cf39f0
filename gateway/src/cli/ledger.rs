//! `kiln ledger`: the durable record, looked after.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;

use super::{ConfigArgs, exit, fail};
use crate::ledger::Ledger;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write a consistent copy while builds go on
    Backup {
        /// The copy; it must not exist
        to: PathBuf,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub(crate) async fn run(verb: Verb) -> ExitCode {
    let Verb::Backup { to, config } = verb;
    let folder = match config.load() {
        Ok(config) => config.data_dir,
        Err(error) => return fail(exit::USAGE, &error),
    };
    if !Ledger::file_in(&folder).is_file() {
        let folder = folder.display();
        return fail(1, &format!("there is no ledger in {folder}; name the gateway's data_dir, or set KILN_DATA_DIR"));
    }
    // A link that leads nowhere counts, too: the copy would be written there.
    if to.symlink_metadata().is_ok() {
        return fail(1, &format!("{} exists, and a backup overwrites nothing; name another file", to.display()));
    }
    // Callers' files and the key that keeps tenants apart are in it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    match Ledger::backup(&folder, &to).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}
