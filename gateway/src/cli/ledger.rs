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
    let backed_up = async { Ledger::open(&folder).await?.backup(&to).await };
    match backed_up.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}
