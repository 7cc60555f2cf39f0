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
    // Opening makes a ledger where there is none, and the copy of that would be taken for a backup.
    if !Ledger::file_in(&folder).is_file() {
        let folder = folder.display();
        return fail(1, &format!("there is no ledger in {folder}; name the gateway's data_dir, or set KILN_DATA_DIR"));
    }
    if to.exists() {
        return fail(1, &format!("{} exists, and a backup overwrites nothing; name another file", to.display()));
    }
    let backed_up = async { Ledger::open(&folder).await?.backup(&to).await };
    match backed_up.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}
